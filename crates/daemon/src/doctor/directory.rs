//! Whether the live directory answers, lets us in, and shows objects that go together with the configuration. Owns the judgement;
//! the reading and the compiling are those of the gateway.

use b2bua::codes::{self, Code};

use super::bounded::CHECK_MAX;
use super::finding::{Finding, Group};
use crate::config::{self, Compiled};
use crate::directory::{Failure, View, read_directory};

const GROUP: Group = Group::Directory;
/// What the line is about when nothing is wrong.
const CODE: Code = codes::DIR_UNREACHABLE;

pub(super) async fn findings(compiled: &Compiled) -> Vec<Finding> {
    let Some(from) = &compiled.directory else { return Vec::new() };
    match tokio::time::timeout(CHECK_MAX, read_directory(from)).await {
        Ok(Ok(view)) => shown(compiled, &from.url(), &view),
        Ok(Err(failure)) => vec![failed(&failure)],
        Err(_) => vec![Finding::fail(GROUP, CODE, format!("{} took longer than {CHECK_MAX:?}", from.url()))],
    }
}

fn failed(failure: &Failure) -> Finding {
    Finding::fail(GROUP, failure.code, failure.what.clone())
}

fn shown(compiled: &Compiled, url: &str, view: &View) -> Vec<Finding> {
    let counts: Vec<String> = view.counts().map(|(cmdlet, count)| format!("{count} of {cmdlet}")).collect();
    let mut found = vec![Finding::ok(GROUP, CODE, format!("{url} shows {}", counts.join(", ")))];
    match config::load_beside(&compiled.file, Some(view)) {
        Ok(compiled) => {
            let left_out = compiled.warnings.iter().filter(|problem| problem.code == codes::DIR_LEFT_OUT);
            found.extend(left_out.map(|problem| Finding::warn(GROUP, problem.code, problem.what.clone())));
        }
        Err(problems) => {
            let first =
                problems.list.first().map(|problem| format!("{}: {}", problem.place.file, problem.what));
            found.push(Finding::fail(GROUP, codes::DIR_VIEW, first.unwrap_or_default()));
        }
    }
    found
}
