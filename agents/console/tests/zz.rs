mod common;
use goblin_console::paint::Artist; use goblin_console::content;
fn rss() -> String { std::fs::read_to_string("/proc/self/status").unwrap().lines().filter(|l| l.starts_with("RssAnon")||l.starts_with("VmHWM")).collect::<Vec<_>>().join(" ") }
#[test] fn b() {
    let m1 = common::console(common::sample("healthy")); let m2 = common::console(common::sample("upgrading"));
    let (s1,s2)=(content::screen(&m1),content::screen(&m2));
    println!("before {}", rss());
    let mut a = Artist::new(1280,800);
    for i in 0..6 { let t=std::time::Instant::now(); a.draw(if i%2==0 {&s1} else {&s2}, vec![], 0.0); println!("frame {:?} {}", t.elapsed(), rss()); }
}
