/// Why a network service ended. It is started again by PID 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The async runtime or a socket it needs could not be made.
    #[error("the network service cannot start: {0}")]
    Start(#[source] std::io::Error),
}
