//! Pairs of SIPp scenarios around the real binary: every pair states a requirement and plays it with a caller on one side
//! and a UM server on the other, over TCP on an Unsecured dial plan. A family shares one gateway process and its settings.
//! `UMBRA_PAIR=words` plays only the pairs whose name contains them.

mod early;
mod ends;
mod lane;
mod offers;
mod refusals;
mod script;
