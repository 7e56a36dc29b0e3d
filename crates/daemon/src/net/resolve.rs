//! Names to addresses through the system's resolver. Owns the time and the number of addresses; refuses to know
//! preferences (the engine takes them in the order given).

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::timeout;

/// A resolver that says nothing for this long has failed.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// Addresses kept of one answer.
const ADDRESSES_MAX: usize = 16;

/// Looks a host name up; an address in text form answers itself.
pub async fn lookup(name: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(vec![address]);
    }
    let found = match timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((name, 0))).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(String::from("the resolver does not answer")),
    };
    let mut addresses = Vec::new();
    for address in found.map(|socket| socket.ip().to_canonical()).take(ADDRESSES_MAX) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(String::from("the name has no address")) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_answers_itself() {
        assert_eq!(lookup("127.0.0.31").await, Ok(vec!["127.0.0.31".parse().unwrap()]));
        assert_eq!(lookup("[::1]").await, Ok(vec!["::1".parse().unwrap()]));
    }

    #[tokio::test]
    async fn a_name_that_cannot_exist_is_an_error_not_a_hang() {
        assert!(lookup("no such host").await.is_err());
    }
}
