//! Network, hello between boards, clock.
