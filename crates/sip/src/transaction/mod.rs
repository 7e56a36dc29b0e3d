//! The four transaction machines as values and the timer table; it knows no socket, no dialog and no call.
