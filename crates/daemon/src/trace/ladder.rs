//! Draws messages between named places as a text ladder. Pure: the same hops give the same picture.

use std::time::Duration;

/// One arrow of the ladder.
#[derive(Clone, Debug)]
pub struct Hop {
    /// Since the first message.
    pub at: Duration,
    /// Column it starts from.
    pub from: usize,
    /// Column it goes to.
    pub to: usize,
    /// What is written on it.
    pub label: String,
}

/// Columns of text between two life lines.
const GAP: usize = 22;
/// Width of the time column before the first life line.
const MARGIN: usize = 9;

/// The ladder as lines of text. Columns beyond the names given are left out.
pub fn ladder(names: &[String], hops: &[Hop]) -> String {
    let mut out = heads(names);
    for hop in hops.iter().filter(|h| h.from != h.to && h.from.max(h.to) < names.len()) {
        out.push_str(&row(names.len(), hop));
    }
    out
}

/// The names, each centred over its life line.
fn heads(names: &[String]) -> String {
    let mut line = String::new();
    for (column, name) in names.iter().enumerate() {
        let centre = MARGIN + 2 + column * (GAP + 1);
        let short: String = name.chars().take(GAP).collect();
        let start = centre.saturating_sub(short.chars().count() / 2);
        let used = line.chars().count();
        line.push_str(&" ".repeat(start.saturating_sub(used).max(usize::from(used > 0))));
        line.push_str(&short);
    }
    line.push('\n');
    line
}

fn row(columns: usize, hop: &Hop) -> String {
    let (left, right) = (hop.from.min(hop.to), hop.from.max(hop.to));
    let mut line = format!("{:>MARGIN$.3}  ", hop.at.as_secs_f64());
    let mut column = 0;
    while column + 1 < columns {
        line.push('│');
        if column == left {
            line.push_str(&arrow((right - left) * (GAP + 1) - 1, &hop.label, hop.from < hop.to));
            column = right;
        } else {
            line.push_str(&" ".repeat(GAP));
            column += 1;
        }
    }
    line.push_str("│\n");
    line
}

/// An arrow `width` columns wide with its label in the middle.
fn arrow(width: usize, label: &str, rightward: bool) -> String {
    let room = width.saturating_sub(4);
    let shown: String = if label.chars().count() > room {
        label.chars().take(room.saturating_sub(1)).chain(['…']).collect()
    } else {
        label.to_owned()
    };
    let dashes = width.saturating_sub(shown.chars().count() + 3);
    let (before, after) = (dashes / 2, dashes - dashes / 2);
    let (head, tail) = if rightward { ("", "▶") } else { ("◀", "") };
    format!("{head}{} {shown} {}{tail}", "─".repeat(before), "─".repeat(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(ms: u64, from: usize, to: usize, label: &str) -> Hop {
        Hop { at: Duration::from_millis(ms), from, to, label: label.to_owned() }
    }

    #[test]
    fn arrows_reach_from_life_line_to_life_line() {
        let names = ["pool01:5061", "umbra:5061", "cas01:5061", "mbx01:5063"].map(String::from);
        let hops = [
            hop(0, 0, 1, "INVITE SRTP"),
            hop(3, 1, 2, "INVITE SRTP"),
            hop(6, 2, 1, "302 → mbx01:5063"),
            hop(8, 1, 3, "INVITE SRTP"),
            hop(21, 1, 0, "200 OK SRTP"),
        ];
        let picture = ladder(&names, &hops);
        let widths: Vec<usize> = picture.lines().skip(1).map(|l| l.chars().count()).collect();
        assert_eq!(widths, vec![widths[0]; hops.len()], "every row is as wide as the others:\n{picture}");
        assert!(picture.contains("◀─ 302 → mbx01:5063 ──│"), "{picture}");
        assert!(
            picture.lines().nth(4).is_some_and(|l| l.matches('│').count() == 3),
            "an arrow crosses cas01:\n{picture}"
        );
    }

    #[test]
    fn a_label_too_long_for_its_arrow_is_cut_and_says_so() {
        let names = ["a", "b"].map(String::from);
        let picture = ladder(&names, &[hop(0, 0, 1, "481 Call Leg/Transaction Does Not Exist")]);
        assert!(picture.contains('…'));
        assert!(picture.lines().all(|l| l.chars().count() <= MARGIN + 4 + GAP));
    }

    #[test]
    fn hops_outside_the_columns_are_left_out() {
        let names = ["a", "b"].map(String::from);
        assert_eq!(ladder(&names, &[hop(0, 0, 5, "x"), hop(0, 1, 1, "y")]).lines().count(), 1);
    }
}
