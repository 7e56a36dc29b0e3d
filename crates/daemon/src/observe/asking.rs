//! One question to the gateway that runs, over its admin endpoint. Owns its bounds and who is believed; what the answer means is
//! the asker's business.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::admin::ORDER_HEADER;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For connect, question and answer: it is our own host.
const PATIENCE: Duration = Duration::from_secs(2);
/// Of the whole answer: a thousand peers with all their connections need less.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What the gateway behind that endpoint has at `path`.
///
/// # Errors
/// Nobody answers, not in time, or somebody who is no gateway of this version; in words.
pub async fn ask<T: DeserializeOwned>(address: SocketAddr, path: &str) -> Result<T, String> {
    exchange(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")).await
}

/// Tells the gateway behind that endpoint to do what stands at `path`.
///
/// # Errors
/// As for [`ask`]; also when it does not know what is meant.
pub async fn order(address: SocketAddr, path: &str) -> Result<(), String> {
    let question =
        format!("POST {path} HTTP/1.0\r\nHost: {address}\r\n{ORDER_HEADER}: 1\r\nContent-Length: 0\r\n\r\n");
    exchange::<String>(address, &question).await.map(|_| ())
}

async fn exchange<T: DeserializeOwned>(address: SocketAddr, question: &str) -> Result<T, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(question.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        io::Result::Ok(answer)
    };
    match timeout(PATIENCE, exchange).await {
        Ok(Ok(answer)) => {
            read(&answer).ok_or_else(|| "what answers there is no gateway of this version".to_owned())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Option<T> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = (answer.get(..end)?, answer.get(end + 4..)?);
    let is_good = head.split(|byte| *byte == b' ').nth(1) == Some(b"200");
    is_good.then(|| serde_json::from_slice(body).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gateway_is_believed() {
        let answer =
            |status: &str, body: &str| format!("HTTP/1.0 {status}\r\na: b\r\n\r\n{body}").into_bytes();
        assert_eq!(read::<Vec<u32>>(&answer("200 OK", "[7]")), Some(vec![7]));
        for stranger in [answer("404 Not Found", "[7]"), answer("200 OK", "<html>"), b"SSH-2.0".to_vec()] {
            assert_eq!(read::<Vec<u32>>(&stranger), None);
        }
    }
}
