//! One endpoint: transactions by key, flows by handle, bytes in and bytes out; it knows no call.
