//! Every kept input, and a few thousand mutations of them, in each target. One test: the heap that a target takes is
//! counted for the whole process.

use std::fs;

use kafscale_fuzz::hunt::{Hunt, PENDING, corpus, home, shrink};
use kafscale_fuzz::mutate::Rng;
use kafscale_fuzz::outcome::Way;
use kafscale_fuzz::wire::CODECS;
use kafscale_fuzz::{Failure, Outcome, TARGETS, Target, check, seed};
use kafscale_wire::APIS;

const MUTATIONS: u32 = 4_000;
const CORPUS_BYTES: usize = 1 << 20;

fn planted(input: &[u8]) -> Outcome {
    assert!(!input.contains(&b'!'), "planted at {}", input.len());
    let memory = vec![1_u8; if input.contains(&b'?') { 1 << 20 } else { 10 }];
    Way::default().accepted(&memory.len())
}

fn planted_bugs_are_found() {
    let target = Target { name: "planted", run: planted, heap_bytes: 1 << 16 };
    assert!(check(&target, b"good").is_ok_and(|outcome| outcome.is_accepted));
    assert!(matches!(check(&target, b"why?"), Err(Failure::Heap { took, .. }) if took >= 1 << 20));
    let panic = check(&target, b"bad!");
    assert!(matches!(&panic, Err(Failure::Panic(what)) if what.contains("planted at 4")), "{panic:?}");
    let target: &'static Target = Box::leak(Box::new(target));
    let mut hunt = Hunt::new(target, vec![("kept".to_owned(), b"some input".to_vec())], 1).expect("it holds");
    let found = (0..100_000).find_map(|_| {
        let input = hunt.make();
        hunt.try_input(input).err()
    });
    assert_eq!(shrink(target, found.expect("a planted bug is found"), 1_000).input.len(), 1);
}

/// A mutation of the corpus that breaks a target is added to the corpus with its fix, as `regression-…`.
fn target_holds(target: &'static Target) -> usize {
    let kept = corpus(target).expect("a corpus");
    let bytes = kept.iter().map(|(_, input)| input.len()).sum();
    for (name, input) in &kept {
        match check(target, input) {
            Ok(_) => assert!(!name.starts_with(PENDING), "{}/{name} holds now: rename it regression-…", target.name),
            Err(failure) => assert!(name.starts_with(PENDING), "{}/{name}: {failure}", target.name),
        }
    }
    let mut hunt = Hunt::new(target, kept, 1).expect("each holds");
    assert!(hunt.accepted * 2 > hunt.runs, "{}: {} of {} can be read", target.name, hunt.accepted, hunt.runs);
    for _ in 0..MUTATIONS {
        let input = hunt.make();
        if let Err(broken) = hunt.try_input(input) {
            let small = shrink(target, broken, 5_000);
            panic!("{}: {}\nby {:?}", target.name, small.failure, small.input);
        }
    }
    assert!(hunt.facts() > 20, "{}: only {} facts: its mutations reach nothing", target.name, hunt.facts());
    bytes
}

/// Directories of targets and no others, and every API among the messages.
fn corpus_is_in_order() {
    let dirs = fs::read_dir(home().join("corpus")).expect("the corpus");
    let mut dirs: Vec<String> =
        dirs.map(|dir| dir.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    dirs.sort();
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    assert_eq!(dirs, names);
    assert!(CODECS.iter().map(|codec| codec.api).eq(APIS), "a message is missing");
}

fn random_bytes_hold() {
    let mut rng = Rng::new(7);
    for target in TARGETS {
        for _ in 0..300 {
            let length = rng.below(400);
            let input = rng.bytes(length);
            assert_eq!(check(target, &input).err(), None, "{} on {input:?}", target.name);
        }
    }
}

#[test]
fn all_targets_hold() {
    planted_bugs_are_found();
    corpus_is_in_order();
    let bytes: usize = TARGETS.iter().map(target_holds).sum();
    assert!(bytes < CORPUS_BYTES, "the corpus has {bytes} bytes");
    random_bytes_hold();
    for target in TARGETS {
        let made = seed::inputs(target).unwrap();
        let kept = corpus(target).unwrap();
        for (name, _) in &made {
            assert!(kept.iter().any(|(kept, _)| kept == name), "{}/{name} is not kept", target.name);
        }
        for (name, _) in &kept {
            let known = made.iter().any(|(made, _)| made == name)
                || name.starts_with("found-")
                || name.starts_with("regression-")
                || name.starts_with(PENDING);
            assert!(known, "{}/{name}: nothing makes it", target.name);
        }
    }
}
