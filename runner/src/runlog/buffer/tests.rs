use proptest::prelude::*;

use super::*;

/// Says it so that a test can read it.
fn say(why: LeftOut, lines: u64) -> String {
    format!("{why:?} {lines}")
}

fn at(millis: u64) -> Moment {
    Moment::after_start(Duration::from_millis(millis))
}

fn buffer(max_bytes: usize) -> Buffer {
    Buffer::new(max_bytes, at(0), say)
}

fn all(buffer: &mut Buffer) -> Vec<String> {
    buffer.take(usize::MAX).map(|(_, lines)| lines).unwrap_or_default()
}

#[test]
fn the_first_half_leaves_at_once_and_of_the_rest_the_last_half_at_the_end() {
    let mut buffer = buffer(40);
    for number in 0..10 {
        buffer.push(format!("line {number} x"));
    }
    assert_eq!(all(&mut buffer), ["line 0 x", "line 1 x"]);
    buffer.finish();
    assert_eq!(buffer.take(usize::MAX), Some((2, vec!["TooLong 6".into(), "line 8 x".into(), "line 9 x".into()])));
    buffer.push("late".to_owned());
    assert!(!buffer.has_more());
}

#[test]
fn a_hundred_lines_a_second_pass_after_a_burst_and_the_rest_is_counted() {
    let mut buffer = buffer(1 << 20);
    let mut passed = 0;
    for millis in 0..10_000 {
        if buffer.admit(at(millis)) {
            passed += 1;
            buffer.push("line".to_owned());
        }
    }
    buffer.finish();
    let lines = all(&mut buffer);
    let said: u64 = lines.iter().filter_map(|line| line.strip_prefix("TooMany ")?.parse::<u64>().ok()).sum();
    assert_eq!(passed + said, 10_000);
    assert!((1_490..=1_500).contains(&passed), "{passed}");
}

#[test]
fn what_a_lost_session_may_have_lost_leaves_again_and_what_was_confirmed_does_not() {
    let mut buffer = buffer(1 << 10);
    ["a", "b", "c"].into_iter().for_each(|line| buffer.push(line.to_owned()));
    assert_eq!(buffer.take(2), Some((0, vec!["a".into(), "b".into()])));
    buffer.mark(7);
    assert_eq!(buffer.take(2), Some((2, vec!["c".into()])));
    buffer.mark(8);
    buffer.confirm(6);
    buffer.confirm(7);
    buffer.rewind();
    assert_eq!(buffer.take(usize::MAX), Some((2, vec!["c".into()])), "after heartbeat 7");
    buffer.mark(1);
    buffer.finish();
    buffer.confirm(1);
    assert!(buffer.is_done());
}

#[test]
fn a_log_of_no_bytes_keeps_nothing() {
    let mut buffer = buffer(0);
    assert!(!buffer.admit(at(0)));
    buffer.finish();
    assert!(buffer.is_done());
}

proptest! {
    /// Whatever comes: the head is what came first, the tail what came last, a line between says exactly how many are
    /// missing, the bytes are within the cap, and numbers have no gap, in whatever pieces it is taken and taken again.
    #[test]
    fn a_log_is_its_head_and_its_tail_and_says_what_is_missing(
        sizes in prop::collection::vec(4_usize..60, 0..80),
        max_bytes in 2_usize..600,
        pieces in prop::collection::vec((1_usize..200, any::<bool>()), 0..20),
    ) {
        let mut buffer = buffer(max_bytes);
        let pushed: Vec<String> = sizes.iter().enumerate().map(|(n, size)| format!("{n:0size$}")).collect();
        let mut pieces = pieces.into_iter();
        let mut got: Vec<String> = Vec::new();
        let mut place = |buffer: &mut Buffer, max| if let Some((first, lines)) = buffer.take(max) {
            let first = usize::try_from(first).unwrap();
            prop_assert!(first <= got.len(), "a gap");
            for (at, line) in lines.into_iter().enumerate() {
                match got.get(first + at) {
                    Some(known) => prop_assert_eq!(known, &line),
                    None => got.push(line),
                }
            }
            Ok(())
        } else { Ok(()) };
        for line in &pushed {
            buffer.push(line.clone());
            if let Some((max, rewinds)) = pieces.next() {
                place(&mut buffer, max)?;
                if rewinds {
                    buffer.rewind();
                }
            }
        }
        buffer.finish();
        while buffer.has_more() {
            place(&mut buffer, 64)?;
        }
        let missing = got.iter().position(|line| line.starts_with("TooLong"));
        match missing {
            None => prop_assert_eq!(&got, &pushed),
            Some(missing) => {
                let tail = &got[missing + 1..];
                prop_assert_eq!(&got[..missing], &pushed[..missing]);
                prop_assert_eq!(tail, &pushed[pushed.len() - tail.len()..]);
                let said = say(LeftOut::TooLong, u64::try_from(pushed.len() - missing - tail.len()).unwrap());
                prop_assert_eq!(&got[missing], &said);
                let bytes: usize = got.iter().map(String::len).sum();
                prop_assert!(bytes <= max_bytes + said.len());
            }
        }
    }
}
