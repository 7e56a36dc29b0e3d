//! What a fuzzer feeds: one function per kind of input, each of which panics when a promise is broken. The fuzz crate calls them with
//! coverage feedback, the replay test with the stored corpus. Owns the promises; refuses to know where inputs come from.

#![allow(clippy::expect_used, clippy::panic)] // a promise that is broken ends by panicking

mod drive;
mod media;
mod parts;
mod play;
mod stream;
mod stun;

pub use drive::redirect;
pub use media::unprotect;
pub use parts::{crypto, headers, message, multipart, sdp, uri};
pub use play::call;
pub use stream::stream;
pub use stun::stun;

/// A target by the name of its corpus folder.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 11] = [
    ("message", message),
    ("stream", stream),
    ("uri", uri),
    ("headers", headers),
    ("sdp", sdp),
    ("multipart", multipart),
    ("crypto", crypto),
    ("unprotect", unprotect),
    ("redirect", redirect),
    ("call", call),
    ("stun", stun),
];
