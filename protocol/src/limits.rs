//! Bounds of everything a stranger can send, each with its unit and reason.
