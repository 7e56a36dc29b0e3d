//! The `ng` control protocol of rtpengine: a cookie and a bencoded dictionary in one datagram each way. The black-box tests
//! of media have this file too.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

type Result<T> = std::result::Result<T, String>;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Largest answer.
const ANSWER_BYTES_MAX: usize = 8_192;

/// A control connection.
pub struct Ng {
    socket: UdpSocket,
    cookie: u32,
}

impl Ng {
    /// To the control port of an rtpengine.
    pub fn connect(to: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind((to.ip(), 0)).map_err(|why| why.to_string())?;
        socket.connect(to).map_err(|why| why.to_string())?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(|why| why.to_string())?;
        Ok(Self { socket, cookie: 0 })
    }

    /// Sends a command; returns the SDP of the answer, if it has one.
    pub fn ask(&mut self, fields: &[(&str, &str)]) -> Result<String> {
        self.cookie += 1;
        let mut datagram = format!("{} d", self.cookie);
        let mut sorted = fields.to_vec();
        sorted.sort();
        for (name, value) in sorted {
            datagram += &format!("{}:{name}", name.len());
            // `l…` is a list already.
            datagram +=
                &if value.starts_with('l') { value.to_owned() } else { format!("{}:{value}", value.len()) };
        }
        datagram.push('e');
        self.socket.send(datagram.as_bytes()).map_err(|why| why.to_string())?;
        let mut answer = [0; ANSWER_BYTES_MAX];
        let length =
            self.socket.recv(&mut answer).map_err(|why| format!("rtpengine does not answer: {why}"))?;
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        if !answer.contains("6:result2:ok") && !answer.contains("6:result4:pong") {
            return Err(format!("rtpengine refuses: {answer}"));
        }
        Ok(string(&answer, "3:sdp").unwrap_or_default())
    }
}

/// The bencoded string behind that key.
fn string(answer: &str, key: &str) -> Option<String> {
    let (length, rest) = answer.split_once(key)?.1.split_once(':')?;
    rest.get(..length.parse().ok()?).map(str::to_owned)
}
