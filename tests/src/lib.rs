//! Scenarios across all of Windlass, against real processes: the harness they share, the
//! demo's story step by step, and a node that lies.
//!
//! | module | owns |
//! | --- | --- |
//! | [`windlass`] | running the command line as a person would, reading what it prints |
//! | [`site`] | the HTTP server that a device publishes |
//! | [`story`] | the demo's steps, each with what it shows |
//! | [`evil`] | a node that lies |
//! | [`initials`] | first packets of QUIC handshakes that nobody goes on with |
//! | [`internet`] | an internet of one's own in network namespaces, with gateways and bad roads |
//! | [`stranger`] | somebody whom nobody knows, without manners |
//! | [`peers`] | other people's programs, where they are installed |
//!
//! Nothing here is part of the product.

pub mod evil;
pub mod initials;
pub mod internet;
pub mod peers;
pub mod site;
pub mod story;
pub mod stranger;
pub mod windlass;
