//! What the daemon runs from: its file, and beside it what its directory showed last. Owns when the directory is read, what is in force
//! of it, and what is said about it; the reading is `directory`'s, the meaning `config`'s.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use b2bua::codes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use super::screen::{Screen, escaped, escaped_lines};
use super::{Exit, load};
use crate::config::{self, Compiled, Severity};
use crate::directory::{Directory, Failure, View, read_directory};
use crate::observe::{DirectoryStanding, Reading, rfc3339};
use crate::run::{Configured, Settings};

/// After a failed reading, the next one comes at the latest so soon; a refused password is not tried sooner, for accounts get locked.
const RETRY: Duration = Duration::from_secs(30);
/// A start without a kept view waits so long for the directory.
const START_MAX: Duration = Duration::from_secs(15);
/// Changed objects that the log names.
const CHANGES_TOLD: usize = 20;
/// Of a name or an error.
const TOLD_CHARS_MAX: usize = 1_000;

type Read = (Directory, Result<View, Failure>);

/// What settings are made of.
#[derive(Clone)]
struct Made {
    /// The file as it was read: a change of it takes SIGHUP, whatever the directory does meanwhile.
    text: String,
    directory: Option<(Directory, PathBuf)>,
    view: Option<View>,
    /// Parts of the view that were left out.
    left_out: usize,
}

/// File and directory of a running gateway.
pub(super) struct Feed {
    path: PathBuf,
    in_force: Made,
    /// Given to the gateway, not yet settled; with what the directory just showed, or without.
    given: Option<(Made, Option<Reading>)>,
    trouble: Option<(SystemTime, Failure)>,
    reading: Option<Reading>,
    wishes: watch::Sender<Option<Directory>>,
    reads: mpsc::Receiver<Read>,
    // Ends with this.
    _reader: JoinSet<()>,
}

/// Reads file and directory for a start. A kept view is taken at once, so that a start never waits for a directory it knows.
pub(super) async fn begin(screen: &Screen, named: Option<&Path>) -> Result<(Feed, Compiled), Exit> {
    let path = load::locate(screen, named)?;
    let refused = |problems: config::Problems| {
        screen.story(&load::rendered(&problems.list, screen.story));
        Exit::BadConfiguration
    };
    let text = config::text_of(&path).map_err(refused)?;
    let directory = config::directory_in(&path, &text).map_err(refused)?;
    let mut start = Start { screen, path: &path, text: &text, trouble: None, is_fresh: false };
    let (view, compiled) = match &directory {
        Some((from, state_dir)) => start.with_directory(from, state_dir).await?,
        None => (None, config::compile_text(&path, &text, None).map_err(refused)?),
    };
    let (trouble, is_fresh) = (start.trouble.take(), start.is_fresh);
    let wanted = directory.as_ref().map(|(from, _)| from.clone());
    let (wishes, wished) = watch::channel(wanted);
    let (sender, reads) = mpsc::channel(1);
    let mut reader = JoinSet::new();
    reader.spawn(read_on(wished, sender, is_fresh, trouble.clone()));
    let feed = Feed {
        in_force: Made { text, directory, view, left_out: left_out(&compiled) },
        given: None,
        trouble: trouble.map(|failure| (SystemTime::now(), failure)),
        reading: None,
        wishes,
        reads,
        _reader: reader,
        path,
    };
    Ok((feed, compiled))
}

struct Start<'a> {
    screen: &'a Screen,
    path: &'a Path,
    text: &'a str,
    trouble: Option<Failure>,
    is_fresh: bool,
}

impl Start<'_> {
    /// The kept view, else what is there now, else none.
    async fn with_directory(
        &mut self,
        from: &Directory,
        state_dir: &Path,
    ) -> Result<(Option<View>, Compiled), Exit> {
        if let Some(view) = View::kept(from, state_dir)
            && let Some(compiled) = self.compiled(&view)
        {
            let (at, count) = (rfc3339(view.taken_at()), view.len());
            self.story(&format!(
                "directory: {count} entries as they were kept at {at}, until there is a newer view"
            ));
            return Ok((Some(view), compiled));
        }
        let late = || Failure {
            code: codes::DIR_UNREACHABLE,
            what: format!("{} does not answer within {START_MAX:?}", from.url()),
        };
        let read =
            tokio::time::timeout(START_MAX, read_directory(from)).await.unwrap_or_else(|_| Err(late()));
        match read {
            Ok(view) => {
                if let Some(compiled) = self.compiled(&view) {
                    self.is_fresh = true;
                    keep(&view, state_dir);
                    return Ok((Some(view), compiled));
                }
            }
            Err(failure) => self.trouble = Some(failure),
        }
        let trouble = self
            .trouble
            .get_or_insert_with(|| Failure { code: codes::DIR_VIEW, what: "refused".to_owned() })
            .clone();
        self.story(&format!("directory: {trouble}  {}\nIts objects are unknown, and none were kept: only those of the file count.", trouble.code));
        match config::compile_text(self.path, self.text, None) {
            Ok(compiled) => Ok((None, compiled)),
            Err(problems) => {
                self.screen.story(&load::rendered(&problems.list, self.screen.story));
                Err(Exit::BadConfiguration)
            }
        }
    }

    fn compiled(&mut self, view: &View) -> Option<Compiled> {
        match config::compile_text(self.path, self.text, Some(view)) {
            Ok(compiled) => Some(compiled),
            Err(problems) => {
                let what = bounded(&errors(&problems));
                self.story(&format!("directory: its objects are refused  {}\n{what}", codes::DIR_VIEW));
                self.trouble = Some(Failure { code: codes::DIR_VIEW, what });
                None
            }
        }
    }

    fn story(&self, text: &str) {
        self.screen.story(&escaped_lines(text));
    }
}

/// Reads at once unless that was just done, then on the timer, and whenever somebody wishes.
async fn read_on(
    mut wishes: watch::Receiver<Option<Directory>>,
    reads: mpsc::Sender<Read>,
    is_fresh: bool,
    mut failed: Option<Failure>,
) {
    let mut is_due = !is_fresh && failed.is_none();
    loop {
        let Some(directory) = wishes.borrow_and_update().clone() else {
            if wishes.changed().await.is_err() {
                return;
            }
            is_due = true;
            continue;
        };
        let pause = if is_due { Duration::ZERO } else { pause_after(failed.as_ref(), directory.refresh) };
        let read = async {
            tokio::time::sleep(pause).await;
            read_directory(&directory).await
        };
        is_due = tokio::select! {
            read = read => {
                failed = read.as_ref().err().cloned();
                if reads.send((directory, read)).await.is_err() {
                    return;
                }
                false
            }
            changed = wishes.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
        };
    }
}

fn pause_after(failed: Option<&Failure>, refresh: Duration) -> Duration {
    match failed {
        Some(failure) if failure.code != codes::DIR_BIND => RETRY.min(refresh),
        _ => refresh,
    }
}

impl Feed {
    fn compile(&self, made: &mut Made) -> Result<Settings, String> {
        let compiled = config::compile_text(&self.path, &made.text, made.view.as_ref());
        let compiled = compiled.map_err(|problems| errors(&problems))?;
        made.left_out = left_out(&compiled);
        Ok(Settings::from(&compiled))
    }

    /// A directory of which nothing is known is waited for, as at a start; calls go on meanwhile.
    async fn read_again(&self) -> Result<Made, String> {
        let words = |problems: config::Problems| escaped_lines(&problems.to_text());
        let text = config::text_of(&self.path).map_err(words)?;
        let directory = config::directory_in(&self.path, &text).map_err(words)?;
        let mut view = directory.as_ref().and_then(|(from, state_dir)| {
            let view = self.in_force.view.clone().filter(|view| view.is_of(from));
            view.or_else(|| View::kept(from, state_dir))
        });
        if let (Some((from, _)), None) = (&directory, &view) {
            view = tokio::time::timeout(START_MAX, read_directory(from)).await.ok().and_then(Result::ok);
        }
        Ok(Made { text, directory, view, left_out: 0 })
    }

    /// What a reading comes to.
    fn judge(&mut self, read: Result<View, Failure>) -> Option<Settings> {
        let view = match read {
            Ok(view) => view,
            Err(failure) => {
                self.lost(failure);
                return None;
            }
        };
        if self.in_force.view.as_ref().is_some_and(|known| known.is_like(&view)) {
            self.found();
            self.reading = Some(Reading::Unchanged);
            self.in_force.view = Some(view);
            self.keep();
            return None;
        }
        let mut made = Made { view: Some(view), ..self.in_force.clone() };
        match self.compile(&mut made) {
            Ok(settings) => {
                self.given = Some((made, Some(Reading::Taken)));
                Some(settings)
            }
            Err(problem) => {
                self.refused(&problem);
                None
            }
        }
    }

    /// Said once for each outage, and again when it has another reason.
    fn lost(&mut self, failure: Failure) {
        self.reading = Some(Reading::Failed);
        let (code, what) = (failure.code.as_str(), escaped(&failure.what));
        match self.trouble.as_ref().is_some_and(|(_, known)| known.code == failure.code) {
            true => debug!(event = "directory_lost", code, %what, "the directory still shows nothing"),
            false => {
                let in_force =
                    self.in_force.view.as_ref().map(|view| rfc3339(view.taken_at())).unwrap_or_default();
                warn!(event = "directory_lost", code, %what, in_force, "the directory shows nothing; what it showed last stays in force");
            }
        }
        let since = self.trouble.as_ref().filter(|_| self.is_outage()).map(|(since, _)| *since);
        self.trouble = Some((since.unwrap_or_else(SystemTime::now), failure));
    }

    fn is_outage(&self) -> bool {
        self.trouble.as_ref().is_some_and(|(_, failure)| failure.code != codes::DIR_VIEW)
    }

    /// Said once for each reason.
    fn refused(&mut self, problem: &str) {
        self.reading = Some(Reading::Refused);
        let what = bounded(problem);
        let (code, known) =
            (codes::DIR_VIEW, self.trouble.as_ref().map(|(_, failure)| failure.what.as_str()));
        if known != Some(&what) {
            error!(event = "directory_refused", code = code.as_str(), problem = %what, "what the directory shows is refused; what it showed last stays in force");
            self.trouble = Some((SystemTime::now(), Failure { code, what }));
        }
    }

    fn found(&mut self) {
        if let Some((since, failure)) = self.trouble.take() {
            let secs = since.elapsed().unwrap_or_default().as_secs();
            info!(
                event = "directory_back",
                code = failure.code.as_str(),
                secs,
                "the directory is read again"
            );
        }
    }

    fn keep(&self) {
        if let (Some((_, state_dir)), Some(view)) = (&self.in_force.directory, &self.in_force.view) {
            keep(view, state_dir);
        }
    }

    fn taken(&mut self, before: Option<&View>) {
        self.found();
        self.reading = Some(Reading::Taken);
        let view = self.in_force.view.as_ref();
        let changes = view.map(|view| view.changes_since(before)).unwrap_or_default();
        let names: Vec<String> = changes.iter().take(CHANGES_TOLD).map(|name| escaped(name)).collect();
        let (count, names, entries) = (changes.len(), names.join("; "), view.map_or(0, View::len));
        let left_out = self.in_force.left_out;
        info!(
            event = "directory_taken",
            entries,
            changes = count,
            names,
            left_out,
            "what the directory shows is in force for new calls"
        );
        self.keep();
    }
}

impl Configured for Feed {
    async fn again(&mut self) -> Result<Settings, String> {
        let made = self.read_again().await;
        let read = made.and_then(|mut made| Ok((self.compile(&mut made)?, made)));
        let wanted = read.as_ref().map_or(&self.in_force, |(_, made)| made).directory.clone();
        self.wishes.send_replace(wanted.map(|(from, _)| from));
        let (settings, made) = read?;
        self.given = Some((made, None));
        Ok(settings)
    }

    async fn news(&mut self) -> Option<Settings> {
        let Some((from, read)) = self.reads.recv().await else { return std::future::pending().await };
        match self.in_force.directory.as_ref().is_some_and(|(known, _)| *known == from) {
            true => self.judge(read),
            false => None,
        }
    }

    fn settled(&mut self, result: Result<(), String>) {
        let Some((made, reading)) = self.given.take() else { return };
        match (result, reading) {
            (Ok(()), reading) => {
                let before = std::mem::replace(&mut self.in_force, made);
                if before.directory != self.in_force.directory {
                    self.trouble = None;
                }
                if reading.is_some() {
                    self.taken(before.view.as_ref());
                }
            }
            (Err(problem), Some(_)) => self.refused(&escaped_lines(&problem)),
            // The log has said so.
            (Err(_), None) => {}
        }
    }

    fn directory(&mut self) -> (Option<DirectoryStanding>, Option<Reading>) {
        let standing = self.in_force.directory.as_ref().map(|(from, _)| DirectoryStanding {
            url: from.url(),
            seen_at: self.in_force.view.as_ref().map(View::taken_at),
            entries: self.in_force.view.as_ref().map_or(0, View::len),
            trouble: self
                .trouble
                .as_ref()
                .map(|(since, failure)| (*since, failure.code.as_str(), bounded(&failure.what))),
        });
        (standing, self.reading.take())
    }
}

fn keep(view: &View, state_dir: &Path) {
    if let Err(problem) = view.keep(state_dir) {
        let code = codes::DIR_KEEP.as_str();
        warn!(event = "directory_not_kept", code, %problem, folder = %state_dir.display(), "the view of the directory cannot be kept for the next start");
    }
}

/// What is refused, without what is merely warned of.
fn errors(problems: &config::Problems) -> String {
    let errors = problems.list.iter().filter(|problem| problem.severity == Severity::Error);
    escaped_lines(&config::render(&errors.cloned().collect::<Vec<_>>()))
}

fn left_out(compiled: &Compiled) -> usize {
    compiled.warnings.iter().filter(|problem| problem.code == codes::DIR_LEFT_OUT).count()
}

fn bounded(text: &str) -> String {
    escaped_lines(text).chars().take(TOLD_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_tried_again_soon_but_not_a_password() {
        let failure = |code| Failure { code, what: String::new() };
        let long = Duration::from_secs(600);
        assert_eq!(pause_after(None, long), long);
        assert_eq!(pause_after(Some(&failure(codes::DIR_UNREACHABLE)), long), RETRY);
        assert_eq!(pause_after(Some(&failure(codes::DIR_BIND)), long), long);
        assert_eq!(
            pause_after(Some(&failure(codes::DIR_TLS)), Duration::from_secs(5)),
            Duration::from_secs(5)
        );
    }
}
