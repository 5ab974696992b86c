//! Runs the agent alone and prints what it tells, for a look at a machine without PID 1.

fn main() {
    std::thread::spawn(|| {
        goblin_sys::devices::follow(|event| {
            println!("{}", serde_json::to_string(&event).unwrap_or_default());
            true
        });
    });
    if let Err(err) = goblin_agent_devices::run_devices() {
        eprintln!("{err}");
    }
}
