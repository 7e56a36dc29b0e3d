//! Every size a peer could choose, bounded by name. Each constant has a test that reaches it.

/// Longest session description that is parsed at all.
pub const SESSION_BYTES_MAX: usize = 32 * 1024;
/// Most `m=` lines in one session description.
pub const MEDIA_LINES_MAX: usize = 16;
/// Most `a=` lines in one session description, session level and all media together.
pub const ATTRIBUTES_MAX: usize = 512;
/// Most payload types on one `m=` line.
pub const FORMATS_MAX: usize = 64;
/// Most `a=crypto` and `a=cryptoscale` lines under one `m=` line.
pub const CRYPTO_LINES_MAX: usize = 16;
/// Most ICE candidate lines (of any spelling) under one `m=` line.
pub const CANDIDATES_MAX: usize = 128;
/// Longest name or password of ICE (RFC 8839 §5.4).
pub const ICE_TEXT_BYTES_MAX: usize = 256;
/// Longest value of one crypto line.
pub const CRYPTO_LINE_BYTES_MAX: usize = 1024;
/// Most session parameters on one crypto line.
pub const SESSION_PARAMS_MAX: usize = 8;
/// Longest master key identifier, in bytes (RFC 4568 §6.1).
pub const MKI_BYTES_MAX: usize = 128;
/// Largest power of two a master key may live, in packets (RFC 3711 §9.2).
pub const LIFETIME_LOG2_MAX: u8 = 48;
/// Most parts looked at in one multipart body, nested ones included.
pub const BODY_PARTS_MAX: usize = 16;
/// Deepest nesting of multipart bodies.
pub const BODY_DEPTH_MAX: usize = 2;
/// Longest boundary (RFC 2046 §5.1.1).
pub const BOUNDARY_BYTES_MAX: usize = 70;
/// Longest header block of one body part.
pub const PART_HEADER_BYTES_MAX: usize = 2048;
