//! Ranges of addresses.

use alloc::{format, string::String};
use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::finding::shown;

/// A range of addresses such as `10.0.0.0/8`. No bit is set behind the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    first: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Whether an address lies in the range.
    ///
    /// An IPv4-mapped address (`::ffff:10.1.2.3`) is the IPv4 address it stands for, so no IPv6
    /// range holds it, not even `::/0`.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && network(address, self.prefix) == self.first
    }

    /// The first address and the last, as numbers.
    pub(super) fn ends(&self) -> (u128, u128) {
        let behind = u32::from(bits(self.first) - self.prefix);
        let first = match self.first {
            IpAddr::V4(first) => u128::from(first.to_bits()),
            IpAddr::V6(first) => first.to_bits(),
        };
        let rest = 1_u128.checked_shl(behind).map_or(u128::MAX, |all| all - 1);
        (first, first | rest)
    }

    /// Whether it is a range of IPv4.
    pub(super) fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// Reads `10.0.0.0/8`, `2001:db8::/32`, or a single address; or says what to write.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Self::read(text).unwrap_or_else(|| {
            Err(format!(
                "found \"{}\"; write a range such as \"10.0.0.0/8\" or an address such as \"10.1.2.3\"",
                shown(text)
            ))
        })
    }

    /// `None` when it is no range at all.
    fn read(text: &str) -> Option<Result<Self, String>> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().ok()?;
        let bits = bits(address);
        let prefix = match prefix {
            None => bits,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse::<u8>().ok().filter(|prefix| *prefix <= bits)?
            }
            Some(_) => return None,
        };
        // `::ffff:10.0.0.0/104` is the IPv4 range it stands for.
        let canonical = address.to_canonical();
        let (address, prefix) = match prefix.checked_sub(bits - self::bits(canonical)) {
            Some(prefix) => (canonical, prefix),
            None => (address, prefix),
        };
        let first = network(address, prefix);
        let range = Self { first, prefix };
        Some(if first == address {
            Ok(range)
        } else {
            Err(format!(
                "found \"{}\", whose address has bits behind the prefix; write \"{range}\" for the range or \"{address}\" for the address",
                shown(text)
            ))
        })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// The bits of an address of this family.
fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with every bit behind the prefix cleared.
pub(super) fn network(address: IpAddr, prefix: u8) -> IpAddr {
    let behind = u32::from(bits(address).saturating_sub(prefix));
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(behind).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn holds(range: &str, address: &str) -> bool {
        Cidr::parse(range)
            .unwrap()
            .contains(address.parse().unwrap())
    }

    #[test]
    fn a_range_holds_its_addresses_and_no_others() {
        assert!(holds("10.0.0.0/8", "10.255.0.1"));
        assert!(!holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("0.0.0.0/0", "255.255.255.255"));
        assert!(holds("10.1.2.3", "10.1.2.3"));
        assert!(!holds("10.1.2.3", "10.1.2.4"));
        assert!(holds("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!holds("2001:db8::/32", "2001:db9::"));
        assert!(holds("::/0", "2001:db8::1"));
        assert!(!holds("::/0", "10.0.0.1"));
        assert!(!holds("0.0.0.0/0", "2001:db8::1"));
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_it_stands_for() {
        assert!(holds("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(holds("::ffff:10.0.0.0/104", "10.1.2.3"));
        assert!(!holds("::/0", "::ffff:10.1.2.3"));
        assert_eq!(
            Cidr::parse("::ffff:10.0.0.0/104").unwrap().to_string(),
            "10.0.0.0/8"
        );
    }

    #[test]
    fn bits_behind_the_prefix_are_refused_with_what_to_write() {
        let what = Cidr::parse("10.1.2.3/8").unwrap_err();
        assert!(
            what.contains("write \"10.0.0.0/8\" for the range or \"10.1.2.3\""),
            "{what}"
        );
        assert!(
            Cidr::parse("2001:db8::1/32")
                .unwrap_err()
                .contains("\"2001:db8::/32\"")
        );
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0/8",
            "10.0.0.0/8/8",
            "2001:db8::/129",
            "fe80::1%eth0",
            "localhost",
            "10.0.0.0/255.0.0.0",
            " 10.0.0.0/8",
            "010.0.0.0/8",
        ] {
            let what = Cidr::parse(text).unwrap_err();
            assert!(what.contains("write a range such as"), "{text}: {what}");
        }
    }

    proptest! {
        #[test]
        fn a_range_holds_what_shares_its_prefix(address: u32, prefix in 0u8..=32, other: u32) {
            let first = network(Ipv4Addr::from(address).into(), prefix);
            let range = Cidr::parse(&format!("{first}/{prefix}")).unwrap();
            let behind = 32 - u32::from(prefix);
            let same = u64::from(address) >> behind == u64::from(other) >> behind;
            prop_assert_eq!(range.contains(Ipv4Addr::from(other).into()), same);
            prop_assert_eq!(range.contains(Ipv4Addr::from(other).to_ipv6_mapped().into()), same);
            prop_assert_eq!(Cidr::parse(&range.to_string()), Ok(range));
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".*|[0-9a-f:.]{0,20}/[0-9]{0,4}") {
            let _ = Cidr::parse(&text);
        }
    }
}
