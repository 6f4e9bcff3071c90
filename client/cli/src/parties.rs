//! Whom a grant or a list is about, as people write it: a device id, `fleet:7`, `anyone`; `tcp/8080`, `all`.

use windlass_client::{DeviceId, Listed, Service};
use windlass_protocol::grant::{GrantService, GrantTarget, Grantee};

const DEVICE_OR_FLEET: &str = "expected a device id (0x…) or fleet:N";

/// A fleet's number, from 1. For clap.
pub(crate) fn parse_fleet(text: &str) -> Result<u64, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u64>().ok().filter(|number| digits && (1..1 << 48).contains(number));
    number.ok_or_else(|| "a fleet's number is a whole number from 1".to_owned())
}

enum DeviceOrFleet {
    Device(DeviceId),
    Fleet(u64),
}

fn device_or_fleet(text: &str) -> Result<DeviceOrFleet, String> {
    if let Some(number) = text.strip_prefix("fleet:") {
        return parse_fleet(number).map(DeviceOrFleet::Fleet);
    }
    if text.starts_with("0x") {
        return text.parse().map(DeviceOrFleet::Device).map_err(|error| format!("{error}"));
    }
    Err(DEVICE_OR_FLEET.to_owned())
}

/// The target of a grant. For clap.
pub(crate) fn parse_target(text: &str) -> Result<GrantTarget, String> {
    Ok(match device_or_fleet(text)? {
        DeviceOrFleet::Device(id) => GrantTarget::Device(id),
        DeviceOrFleet::Fleet(number) => GrantTarget::Fleet(number),
    })
}

/// The grantee of a grant. For clap.
pub(crate) fn parse_grantee(text: &str) -> Result<Grantee, String> {
    if text == "anyone" {
        return Ok(Grantee::Anyone);
    }
    match device_or_fleet(text) {
        Ok(DeviceOrFleet::Device(id)) => Ok(Grantee::Device(id)),
        Ok(DeviceOrFleet::Fleet(number)) => Ok(Grantee::Fleet(number)),
        Err(reason) if reason == DEVICE_OR_FLEET => Err(format!("{DEVICE_OR_FLEET} or anyone")),
        Err(reason) => Err(reason),
    }
}

/// The services of a grant. For clap.
pub(crate) fn parse_service(text: &str) -> Result<GrantService, String> {
    if text == "all" {
        return Ok(GrantService::All);
    }
    text.parse().map(GrantService::One).map_err(|error| format!("{error}, or `all`"))
}

/// One service. For clap.
pub(crate) fn parse_one_service(text: &str) -> Result<Service, String> {
    text.parse().map_err(|error| format!("{error}"))
}

/// An entry of a publisher's list. For clap.
pub(crate) fn parse_listed(text: &str) -> Result<Listed, String> {
    Ok(match device_or_fleet(text)? {
        DeviceOrFleet::Device(id) => Listed::Device(id),
        DeviceOrFleet::Fleet(number) => Listed::Fleet(number),
    })
}

pub(crate) fn target_text(target: &GrantTarget) -> String {
    match target {
        GrantTarget::Device(id) => id.to_string(),
        GrantTarget::Fleet(number) => format!("fleet:{number}"),
    }
}

pub(crate) fn grantee_text(grantee: &Grantee) -> String {
    match grantee {
        Grantee::Device(id) => id.to_string(),
        Grantee::Fleet(number) => format!("fleet:{number}"),
        Grantee::Anyone => "anyone".to_owned(),
    }
}

pub(crate) fn service_text(service: &GrantService) -> String {
    match service {
        GrantService::One(service) => service.to_string(),
        GrantService::All => "all".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ID: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

    #[test]
    fn what_is_written_is_read_back() {
        for text in [ID, "fleet:7"] {
            assert_eq!(target_text(&parse_target(text).unwrap()), text);
        }
        for text in [ID, "fleet:7", "anyone"] {
            assert_eq!(grantee_text(&parse_grantee(text).unwrap()), text);
        }
        for text in ["tcp/80", "udp/53", "all"] {
            assert_eq!(service_text(&parse_service(text).unwrap()), text);
        }
        assert_eq!(parse_listed("fleet:1"), Ok(Listed::Fleet(1)));
    }

    #[test]
    fn mistakes_are_said() {
        for text in ["0", "+1", "-1", "281474976710656", "one", ""] {
            assert!(parse_fleet(text).is_err(), "{text}");
        }
        assert!(parse_target("anyone").unwrap_err().contains("fleet:N"));
        assert!(parse_grantee("somebody").unwrap_err().contains("anyone"));
        assert!(parse_grantee(&ID.replace("BeAed", "Beaed")).unwrap_err().contains("EIP-55"));
        assert!(parse_one_service("all").is_err() && parse_one_service("udp/0").is_err());
        assert!(parse_service("tcp/0").is_err() && parse_listed("fleet:0").is_err());
    }
}
