//! The supervisor of executions, for programs that cannot be their own: tests, and scripts' hosts.

fn main() {
    aion_machine::supervisor::run_if_requested();
    eprintln!("this program is started by aion-machine; it does nothing by itself");
    std::process::exit(2);
}
