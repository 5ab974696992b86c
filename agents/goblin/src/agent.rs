//! `goblin agent NAME`: the choice of an agent.

use crate::cli::Agent;
use crate::log;
use std::error::Error;
use std::process::ExitCode;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Runs an agent to its end. Services only end on a fatal error, and PID 1 starts them again.
pub fn run(agent: Agent) -> ExitCode {
    log::start();
    match dispatch(agent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            tracing::error!(agent = ?agent, err = chain(err.as_ref()), "agent failed");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(agent: Agent) -> Outcome {
    match agent {
        Agent::State => goblin_agent_pool::run_state()?,
        Agent::Provision => goblin_agent_provision::run()?,
        Agent::Devices => goblin_agent_devices::run_devices()?,
        Agent::Dbus => goblin_agent_dbus::run()?,
        Agent::Net => goblin_agent_net::run_net()?,
        Agent::Time => goblin_agent_net::run_time()?,
        Agent::Control => goblin_agent_control::run_control()?,
        Agent::Pool => goblin_agent_pool::run_pool()?,
        Agent::Disks => goblin_agent_pool::run_disks()?,
        Agent::Share => goblin_agent_share::run()?,
        Agent::Mount => goblin_agent_client::run_mount()?,
        Agent::Update => goblin_agent_update::run()?,
        Agent::Bless => goblin_agent_update::run_bless()?,
        Agent::Health => goblin_agent_control::run_health()?,
        Agent::Channel => goblin_agent_control::run_channel()?,
        Agent::Journal => goblin_agent_journal::run()?,
    }
    Ok(())
}

/// The error and its causes, each once: many errors repeat their cause in their own text.
fn chain(err: &(dyn Error + 'static)) -> String {
    let mut text = err.to_string();
    let mut next = err.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot listen{text}")]
    struct Outer {
        text: &'static str,
        #[source]
        source: std::io::Error,
    }

    #[test]
    fn causes_are_told_once() {
        let err = |text| Outer { text, source: std::io::Error::other("address in use") };
        assert_eq!(chain(&err("")), "cannot listen: address in use");
        assert_eq!(chain(&err(": address in use")), "cannot listen: address in use");
    }
}
