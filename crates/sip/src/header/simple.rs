//! Simple headers through rsip's typed grammar, on values the wire layer has cut. Tokens that rsip does not know
//! are kept beside what it types, so that nothing a peer listed is lost.
