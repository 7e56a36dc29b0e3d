//! A recording as a line of block characters.

use super::level_dbfs;

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Levels of the lowest and the highest block.
const LOW_DBFS: f64 = -50.0;
const HIGH_DBFS: f64 = -8.0;

/// `columns` characters, one per equal slice; empty for no samples.
pub fn waveform(samples: &[i16], columns: usize) -> String {
    if samples.is_empty() || columns == 0 {
        return String::new();
    }
    (0..columns)
        .map(|column| {
            let from = column * samples.len() / columns;
            let to = ((column + 1) * samples.len() / columns).max(from + 1);
            block(level_dbfs(&samples[from..to.min(samples.len())]))
        })
        .collect()
}

fn block(level: f64) -> char {
    let share = ((level - LOW_DBFS) / (HIGH_DBFS - LOW_DBFS)).clamp(0.0, 1.0);
    let index = (share * (BLOCKS.len() - 1) as f64).round() as usize;
    BLOCKS[index.min(BLOCKS.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::super::{silence, tone};
    use super::*;

    #[test]
    fn loud_parts_stand_higher_than_quiet_ones() {
        let mut samples = silence(800);
        samples.extend(tone(440.0, -10.0, 800));
        let picture: Vec<char> = waveform(&samples, 4).chars().collect();
        assert_eq!(picture.len(), 4);
        assert_eq!(picture[0], '▁');
        assert!(picture[3] >= '▇');
    }

    #[test]
    fn fewer_samples_than_columns_is_fine() {
        assert_eq!(waveform(&[1, 2], 5).chars().count(), 5);
        assert_eq!(waveform(&[], 5), "");
    }
}
