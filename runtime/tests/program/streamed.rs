//! A streamed stage gives the bits of its layers one by one.

use mnc_runtime::program::Split;
use mnc_runtime::team::Team;

use super::net::{Chain, Random, Second};

/// Chains of up to six layers in strips of 1 to 5 rows, by 1 to 4 threads, with gaps between pixels and rings as small as can be.
#[test]
fn streaming_changes_no_bit() {
    let mut team = Team::new(4);
    let (mut streamed, mut wrapped, mut added) = (0, 0, 0);
    for seed in 0..if cfg!(miri) { 3 } else { 250 } {
        let random = &mut Random(seed);
        let chain = Chain::random(random, 6);
        if chain.ops.len() < 3 {
            continue;
        }
        let input = random.floats(chain.shapes[0].iter().product());
        let want = chain.layered(1, Split::Alone).run(&mut team, &chain.weights, &input);
        for strip in if cfg!(miri) { &[2][..] } else { &[1, 2, 3, 4, 5, usize::MAX] } {
            for threads in if cfg!(miri) { 2..=2 } else { 1..=4 } {
                for (split, gap, more) in [(Split::Rows, 0, 0), (Split::Alone, 3, 0), (Split::Rows, 13, 1)] {
                    let tables = chain.streamed(*strip, threads, split, gap, more);
                    let got = tables.run(&mut team, &chain.weights, &input);
                    let what =
                        format!("seed {seed}, strips of {strip}, {threads} threads, {split:?}, gap {gap}, {more} more rows");
                    assert_eq!(got, want, "{what}: {:?} {:#?}", chain.shapes, chain.ops);
                    streamed += 1;
                    added += usize::from(chain.second.iter().any(|s| matches!(s, Some(Second::Older(_)))));
                    wrapped += usize::from((2..chain.ops.len()).any(|i| tables.steps[i].x.rows < chain.shapes[i][0]));
                }
            }
        }
    }
    let least = if cfg!(miri) { 0 } else { 8_000 };
    assert!(streamed > least && wrapped > streamed / 2, "{streamed} programs, {wrapped} with rings smaller than the tensor");
    assert!(cfg!(miri) || added > streamed / 20, "{added} of {streamed} programs add what stands in a ring");
}

/// Layers one by one, shared by rows or by channels.
#[test]
fn threads_change_no_bit() {
    let mut team = Team::new(5);
    for seed in 0..if cfg!(miri) { 3 } else { 300 } {
        let random = &mut Random(1000 + seed);
        let chain = Chain::random(random, 5);
        let input = random.floats(chain.shapes[0].iter().product());
        let want = chain.layered(1, Split::Alone).run(&mut team, &chain.weights, &input);
        for threads in if cfg!(miri) { 3..=3 } else { 1..=5 } {
            for split in [Split::Alone, Split::Rows, Split::Channels] {
                let got = chain.layered(threads, split).run(&mut team, &chain.weights, &input);
                assert_eq!(got, want, "seed {seed}, {threads} threads by {split:?}: {:?} {:#?}", chain.shapes, chain.ops);
            }
        }
    }
}
