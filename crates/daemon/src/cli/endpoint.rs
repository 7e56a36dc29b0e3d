//! Which admin endpoint a command asks. Owns the words for it and the order in which they count; asks nothing itself.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::screen::Screen;
use super::{Exit, load};

/// Names the admin endpoint for every command that asks it.
const SERVER_VARIABLE: &str = "UMBRA_SERVER";

/// The words that name it.
#[derive(Debug, Args)]
pub(super) struct Endpoint {
    /// Configuration, whose `[admin] http` is asked; without it ./umbra.toml, then /etc/umbra/umbra.toml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin endpoint, instead of a configuration; UMBRA_SERVER says the same
    #[arg(long, value_name = "[http://]ADDRESS:PORT", value_parser = server, conflicts_with = "config")]
    server: Option<SocketAddr>,
}

/// The address of an endpoint as it is typed.
pub(crate) fn server(text: &str) -> Result<SocketAddr, String> {
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    address
        .parse()
        .map_err(|_| "wanted: an address and a port, as 127.0.0.1:9065 or http://[::1]:9065".to_owned())
}

impl Endpoint {
    /// Its address, or how the command ends without one.
    pub(super) fn address(&self, screen: &Screen) -> Result<SocketAddr, Exit> {
        if let Some(address) = self.server {
            return Ok(address);
        }
        let named = std::env::var(SERVER_VARIABLE).ok().filter(|text| !text.is_empty());
        if let (Some(text), None) = (named, &self.config) {
            return server(&text).map_err(|why| {
                screen.story(&format!("{SERVER_VARIABLE}: {why}"));
                Exit::Usage
            });
        }
        let loaded = load::compiled(screen, self.config.as_deref())?;
        loaded.admin.http.ok_or_else(|| {
            screen.story("[admin] http is empty: that gateway answers nobody");
            Exit::Unreachable
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_an_address_with_or_without_its_scheme() {
        for text in ["127.0.0.1:9065", "http://127.0.0.1:9065", "http://127.0.0.1:9065/"] {
            assert_eq!(server(text), Ok("127.0.0.1:9065".parse().unwrap()));
        }
        for text in ["unix:umbra.sock", "9065", "https://127.0.0.1:9065", "localhost:9065"] {
            assert!(server(text).is_err(), "{text}");
        }
    }
}
