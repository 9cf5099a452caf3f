//! Kafka's messages: each in its first version, its first flexible one and its last.

use super::Input;
use crate::mutate::Rng;
use crate::wire::{CODECS, Codec};

const CHOICES: usize = 96;

pub(super) fn frames() -> Vec<Input> {
    each("", |codec, _, version, choices| (codec.random_frame)(choices, version))
}

pub(super) fn requests() -> Vec<Input> {
    each("-request", |codec, place, version, choices| {
        [place.to_vec(), (codec.random_request)(choices, version)].concat()
    })
}

pub(super) fn responses() -> Vec<Input> {
    each("-response", |codec, place, version, choices| {
        [place.to_vec(), (codec.random_response)(choices, version)].concat()
    })
}

/// Of every API and some versions: the one with the most bytes of a few random values.
fn each(side: &str, make: fn(&Codec, [u8; 2], i16, &[u8]) -> Vec<u8>) -> Vec<Input> {
    let mut inputs = Vec::new();
    for (place, codec) in (0..).zip(CODECS.iter()) {
        let (first, last) = (*codec.api.versions.start(), *codec.api.versions.end());
        let mut versions = vec![first, last];
        if codec.api.flexible_from < last {
            versions.push(codec.api.flexible_from.max(first));
        }
        versions.sort_unstable();
        versions.dedup();
        for version in versions {
            let number = u8::try_from(version - first).expect("an API has few versions");
            let mut rng = Rng::new(u64::from(place) << 8 | u64::from(number));
            let values = (0..16).map(|_| make(codec, [place, number], version, &rng.bytes(CHOICES)));
            let largest = values.max_by_key(Vec::len).unwrap_or_default();
            inputs.push((format!("{}{side}-v{version}", codec.api.name), largest));
        }
    }
    inputs
}
