//! Services: a transport and a port, as one 32-bit number.

use core::fmt;
use core::str::FromStr;

/// A service a device publishes. Numbered `transport << 16 | port`; transport 1 carries streams (TCP,
/// or a Unix socket under a virtual port), transport 2 datagrams.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Service {
    /// Ordered bytes, at this port.
    Stream(u16),
    /// Datagrams, at this port.
    Datagram(u16),
}

/// The service number that stands for all services in a grant.
pub const ALL_SERVICES: u32 = 0xffff_ffff;

/// A text or number that is no service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a service: expected a port from 1 to 65535, as in `8080`, `tcp/8080` or `udp/53`")]
pub struct ServiceError;

impl Service {
    /// `transport << 16 | port`.
    pub fn number(self) -> u32 {
        match self {
            Self::Stream(port) => 1 << 16 | u32::from(port),
            Self::Datagram(port) => 2 << 16 | u32::from(port),
        }
    }

    /// The service with this number; port 0 and other transports are none.
    pub fn from_number(number: u32) -> Result<Self, ServiceError> {
        let port = (number & 0xffff) as u16;
        match (number >> 16, port) {
            (_, 0) => Err(ServiceError),
            (1, port) => Ok(Self::Stream(port)),
            (2, port) => Ok(Self::Datagram(port)),
            _ => Err(ServiceError),
        }
    }

    /// The port.
    pub fn port(self) -> u16 {
        match self {
            Self::Stream(port) | Self::Datagram(port) => port,
        }
    }
}

impl FromStr for Service {
    type Err = ServiceError;
    fn from_str(text: &str) -> Result<Self, ServiceError> {
        let (transport, port) = text.split_once('/').unwrap_or(("tcp", text));
        // Digits only: `u16::from_str` would take a leading plus sign.
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ServiceError);
        }
        let port = port.parse::<u16>().ok().filter(|p| *p != 0).ok_or(ServiceError)?;
        match transport {
            "tcp" => Ok(Self::Stream(port)),
            "udp" => Ok(Self::Datagram(port)),
            _ => Err(ServiceError),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(port) => write!(f, "tcp/{port}"),
            Self::Datagram(port) => write!(f, "udp/{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts_and_numbers() {
        assert_eq!("8080".parse::<Service>().unwrap().number(), 0x1_1f90);
        assert_eq!("udp/53".parse::<Service>().unwrap().number(), 0x2_0035);
        assert_eq!(Service::from_number(0x2_0035), Ok(Service::Datagram(53)));
        for number in [0, 0x1_0000, 0x3_0001, 80, ALL_SERVICES] {
            assert_eq!(Service::from_number(number), Err(ServiceError));
        }
        for text in ["", "0", "+80", "65536", "tcp/", "tcp/x", "sctp/1", "80/tcp"] {
            assert!(text.parse::<Service>().is_err(), "{text}");
        }
    }
}
