//! The time channel's frames survive whatever comes over the port.

use noonmark_contract::channel::{Answer, Decoder, FRAME_LEN, Frame, Request};
use noonmark_contract::units::{Nanos, Raw, Utc};
use noonmark_sync::burst::{Burst, Next};
use proptest::prelude::*;

const BUILT: Utc = Utc(1_700_000_000_000_000_000);

fn answers() -> impl Strategy<Value = Answer> {
    (any::<u32>(), any::<i64>(), any::<i64>(), any::<i64>()).prop_map(|(sequence, t1, t2, t3)| {
        Answer {
            sequence,
            t1: Raw(t1),
            t2: Utc(t2),
            t3: Utc(t3),
        }
    })
}

/// Garbage that can't contain a frame's beginning.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| if byte == b'N' { b'n' } else { byte });
    proptest::collection::vec(byte, 0..200)
}

fn decode(decoder: &mut Decoder<Answer>) -> Vec<Answer> {
    core::iter::from_fn(|| decoder.next_frame()).collect()
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_are_digested_and_memory_stays_bounded(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5_000), 0..8),
    ) {
        let mut decoder = Decoder::<Answer>::default();
        let mut pushed = 0;
        let mut found = 0;
        for piece in pieces {
            pushed += piece.len() as u64;
            decoder.push(&piece);
            found += decode(&mut decoder).len() as u64 * FRAME_LEN as u64;
        }
        decoder.clear();
        prop_assert_eq!(decoder.skipped_bytes() + found, pushed);
    }

    #[test]
    fn frames_between_garbage_are_all_found_however_they_are_cut(
        parts in proptest::collection::vec((garbage(), answers()), 1..6),
        cut in 1_usize..100,
    ) {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        let mut noise = 0;
        for (garbage, answer) in parts {
            noise += garbage.len() as u64;
            stream.extend(garbage);
            stream.extend(answer.encode());
            expected.push(answer);
        }
        let mut decoder = Decoder::default();
        let mut found = Vec::new();
        for piece in stream.chunks(cut) {
            decoder.push(piece);
            found.extend(decode(&mut decoder));
        }
        prop_assert_eq!(found, expected);
        prop_assert_eq!(decoder.skipped_bytes(), noise);
    }

    #[test]
    fn a_frame_with_any_bit_turned_is_no_frame(answer in answers(), bit in 0..FRAME_LEN * 8) {
        let mut frame = answer.encode();
        frame[bit / 8] ^= 1 << (bit % 8);
        let mut decoder = Decoder::<Answer>::default();
        decoder.push(&frame);
        prop_assert_eq!(decoder.next_frame(), None);
    }

    #[test]
    fn an_answer_is_never_taken_for_a_request(answer in answers()) {
        let mut decoder = Decoder::<Request>::default();
        decoder.push(&answer.encode());
        prop_assert_eq!(decoder.next_frame(), None);
    }

    #[test]
    fn the_true_host_time_is_within_the_bound_of_an_honest_answer(
        there in 0_i64..50_000_000,
        held in 0_i64..1_000_000,
        back in 0_i64..9_000_000,
        host in 1_750_000_000_000_000_000_i64..4_000_000_000_000_000_000,
    ) {
        let mut burst = Burst::new(41, 1, BUILT, Raw(0));
        let Next::Send(_) = burst.next(Raw(0)) else {
            panic!("a burst begins with a request");
        };
        let answer = Answer {
            sequence: 42,
            t1: Raw(0),
            t2: Utc(host + there),
            t3: Utc(host + there + held),
        };
        let t4 = Raw(there + held + back);
        burst.on_answer(&answer, t4);
        let Next::Done(Ok(exchange)) = burst.next(t4) else {
            panic!("an honest answer is believed");
        };
        let truth = Utc(host) + (exchange.raw - Raw(0));
        prop_assert!((exchange.reference - truth).abs() <= exchange.bound);
    }

    #[test]
    fn no_answer_makes_a_burst_panic_or_go_on_for_ever(
        hostile in proptest::collection::vec((answers(), any::<bool>(), 0_i64..400_000_000), 0..64),
    ) {
        let mut now = Raw(0);
        let mut burst = Burst::new(u32::MAX - 3, 8, BUILT, now);
        let mut sent = None;
        for (mut answer, matching, wait) in hostile {
            match burst.next(now) {
                Next::Send(frame) => {
                    let mut decoder = Decoder::<Request>::default();
                    decoder.push(&frame);
                    sent = decoder.next_frame();
                }
                Next::Wait(_) => {}
                Next::Done(_) => return Ok(()),
            }
            if let (Some(request), true) = (sent, matching) {
                answer.sequence = request.sequence;
                answer.t1 = request.t1;
            }
            now = now + Nanos(wait);
            burst.on_answer(&answer, now);
        }
        let end = now + Nanos::from_secs(1);
        prop_assert!(matches!(burst.next(end), Next::Done(_)));
    }
}
