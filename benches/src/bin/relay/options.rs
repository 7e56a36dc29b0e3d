//! What the command line asks for.

use umbra_benches::load::positive;

/// Text of `--help`.
const USAGE: &str = "usage: benches/relay [--quick] [--sessions N,N,...] [--modes rtp,srtp-srtp,srtp-rtp] [--rounds N] [--seconds N] [--threads N] [--only umbra|rtpengine|direct]
  --quick          500 sessions, RTP and SRTP to RTP, five paired rounds, at most five minutes
  --sessions N,... calls at once; each is 50 packets a second in both directions (default 100,500,1000,2000)
  --modes NAME,... what the two legs speak (default all)
  --rounds N       rounds per subject, alternating; the median counts (default 5)
  --seconds N      measured seconds of a round (default 8)
  --threads N      relay threads of each subject (default 2)
  --only NAME      one subject only; direct: nobody relays, the generator's own delay";

/// What the legs speak.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Mode {
    /// RTP on both legs.
    Rtp,
    /// SRTP on both, each leg with keys of its own.
    SrtpSrtp,
    /// SRTP on leg A, RTP on leg B.
    SrtpRtp,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rtp, Self::SrtpSrtp, Self::SrtpRtp];

    /// Its word in every table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rtp => "rtp",
            Self::SrtpSrtp => "srtp-srtp",
            Self::SrtpRtp => "srtp-rtp",
        }
    }
}

/// Who relays.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The media threads of the gateway.
    Umbra,
    /// rtpengine in user space.
    Rtpengine,
    /// Nobody.
    Direct,
}

impl Kind {
    /// Its word in every table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Umbra => "umbra",
            Self::Rtpengine => "rtpengine",
            Self::Direct => "direct",
        }
    }
}

/// What to do.
#[derive(Debug)]
pub struct Options {
    pub sessions: Vec<u32>,
    pub modes: Vec<Mode>,
    pub kinds: Vec<Kind>,
    pub rounds: usize,
    pub seconds: u32,
    pub threads: usize,
}

impl Options {
    /// Reads arguments; the text of the error is for the user.
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            sessions: vec![100, 500, 1_000, 2_000],
            modes: Mode::ALL.to_vec(),
            kinds: vec![Kind::Umbra, Kind::Rtpengine],
            rounds: 5,
            seconds: 8,
            threads: 2,
        };
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name} needs a value\n{USAGE}"));
            match name.as_str() {
                "--quick" => {
                    options.sessions = vec![500];
                    options.modes = vec![Mode::Rtp, Mode::SrtpRtp];
                }
                "--sessions" => options.sessions = list(&value()?, number)?,
                "--modes" => options.modes = list(&value()?, mode)?,
                "--rounds" => options.rounds = number(&value()?)? as usize,
                "--seconds" => options.seconds = number(&value()?)?,
                "--threads" => options.threads = number(&value()?)? as usize,
                "--only" => options.kinds = vec![kind(&value()?)?],
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}

fn number(text: &str) -> Result<u32, String> {
    positive(text).map_err(|why| format!("{why}\n{USAGE}"))
}

fn list<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',').map(read).collect()
}

fn mode(text: &str) -> Result<Mode, String> {
    Mode::ALL.into_iter().find(|mode| mode.name() == text).ok_or(format!("no mode {text}\n{USAGE}"))
}

fn kind(text: &str) -> Result<Kind, String> {
    let kinds = [Kind::Umbra, Kind::Rtpengine, Kind::Direct];
    kinds.into_iter().find(|kind| kind.name() == text).ok_or(format!("no subject {text}\n{USAGE}"))
}
