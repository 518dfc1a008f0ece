//! The tree against the vectors that implementations of Certificate Transparency share, against another
//! implementation, and against itself.

use backout_ledger::audit::tree::{
    Frontier, Hash, consistency_proof, empty_root, hash_leaf, inclusion_proof, root_of,
    verify_consistency, verify_inclusion,
};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;

fn hex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

fn hash(text: &str) -> Hash {
    hex(text).try_into().unwrap()
}

/// The eight leaves of the shared vectors.
fn leaves() -> Vec<Hash> {
    let leaves = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    leaves.iter().map(|leaf| hash_leaf(&hex(leaf))).collect()
}

/// Roots over the first one, two, … of them.
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn roots_are_the_published_ones() {
    let mut frontier = Frontier::default();
    assert_eq!(
        (frontier.root(), empty_root(), root_of(&[])),
        (hash(EMPTY), hash(EMPTY), hash(EMPTY))
    );
    for (count, leaf) in leaves().into_iter().enumerate() {
        frontier.push(leaf);
        assert_eq!(frontier.root(), hash(ROOTS[count]), "{} leaves", count + 1);
        assert_eq!(root_of(&leaves()[..=count]), hash(ROOTS[count]), "{} leaves", count + 1);
    }
}

#[test]
fn inclusion_proofs_are_the_published_ones() {
    let vectors: [(usize, usize, &[&str]); 5] = [
        (1, 1, &[]),
        (
            1,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            &[
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (3, 3, &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
        (
            2,
            5,
            &[
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];
    for (leaf, size, expected) in vectors {
        let expected: Vec<Hash> = expected.iter().map(|step| hash(step)).collect();
        let all = leaves();
        assert_eq!(inclusion_proof(&all[..size], leaf - 1), Some(expected.clone()));
        let root = hash(ROOTS[size - 1]);
        let (index, count) = (leaf as u64 - 1, size as u64);
        assert!(verify_inclusion(&all[leaf - 1], index, count, &expected, &root));
        refuses_bent_inclusions(&all[leaf - 1], index, count, &expected, &root);
    }
    assert_eq!(inclusion_proof(&leaves(), 8), None);
}

fn bent(hash: &Hash) -> Hash {
    let mut hash = *hash;
    hash[0] ^= 8;
    hash
}

fn refuses_bent_inclusions(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) {
    let refused = |leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash| {
        assert!(!verify_inclusion(leaf, index, size, proof, root), "{index} of {size}: {proof:?}");
    };
    refused(leaf, index.wrapping_sub(1), size, proof, root);
    refused(leaf, index + 1, size, proof, root);
    refused(leaf, index ^ 2, size, proof, root);
    refused(leaf, index, size * 2, proof, root);
    refused(leaf, index, size / 2, proof, root);
    refused(&bent(leaf), index, size, proof, root);
    refused(leaf, index, size, proof, &bent(root));
    refused(leaf, index, size, &[proof, &[*root]].concat(), root);
    refused(leaf, index, size, &[&[*root], proof].concat(), root);
    for place in 0..proof.len() {
        let mut other = proof.to_vec();
        other[place] = bent(&other[place]);
        refused(leaf, index, size, &other, root);
        other.remove(place);
        refused(leaf, index, size, &other, root);
    }
}

#[test]
fn consistency_proofs_are_the_published_ones() {
    let vectors: [(usize, usize, &[&str]); 5] = [
        (1, 1, &[]),
        (
            1,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            &[
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            &[
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
        (
            6,
            7,
            &[
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
    ];
    for (old, new, expected) in vectors {
        let expected: Vec<Hash> = expected.iter().map(|step| hash(step)).collect();
        assert_eq!(consistency_proof(&leaves()[..new], old), Some(expected.clone()));
        let roots = (hash(ROOTS[old - 1]), hash(ROOTS[new - 1]));
        assert!(verify_consistency((old as u64, &roots.0), (new as u64, &roots.1), &expected));
        refuses_bent_consistencies(old as u64, new as u64, &roots, &expected);
    }
    assert_eq!(consistency_proof(&leaves(), 9), None);
    // A tree of nothing is the beginning of every other.
    assert!(verify_consistency((0, &empty_root()), (8, &hash(ROOTS[7])), &[]));
    assert!(!verify_consistency((0, &hash(ROOTS[0])), (8, &hash(ROOTS[7])), &[]));
    assert!(!verify_consistency((2, &hash(ROOTS[1])), (1, &hash(ROOTS[0])), &[]));
}

fn refuses_bent_consistencies(old: u64, new: u64, roots: &(Hash, Hash), proof: &[Hash]) {
    let refused = |old: (u64, &Hash), new: (u64, &Hash), proof: &[Hash]| {
        assert!(!verify_consistency(old, new, proof), "{} in {}: {proof:?}", old.0, new.0);
    };
    let (first, last) = (&roots.0, &roots.1);
    refused((old, &bent(first)), (new, last), proof);
    refused((old, first), (new, &bent(last)), proof);
    refused((old, first), (new, last), &[proof, &[*first]].concat());
    refused((old, first), (new, last), &[&[*last], proof].concat());
    if proof.is_empty() {
        return;
    }
    refused((old - 1, first), (new, last), proof);
    refused((old + 1, first), (new, last), proof);
    refused((old, first), (new * 2, last), proof);
    refused((old, first), (new / 2, last), proof);
    refused((old, last), (new, first), proof);
    refused((old, first), (new, last), &[]);
    for place in 0..proof.len() {
        let mut other = proof.to_vec();
        other[place] = bent(&other[place]);
        refused((old, first), (new, last), &other);
        other.remove(place);
        refused((old, first), (new, last), &other);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn another_implementation_says_the_same(texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 1..70)) {
        let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        let mut frontier = Frontier::default();
        let mut hashes = Vec::new();
        for text in &texts {
            theirs.push(text.clone());
            hashes.push(hash_leaf(text));
            frontier.push(hash_leaf(text));
            let root = theirs.root();
            prop_assert_eq!(&frontier.root()[..], root.as_bytes().as_slice());
        }
        for index in 0..texts.len() {
            let proof = inclusion_proof(&hashes, index).unwrap().concat();
            let expected = theirs.prove_inclusion(index);
            prop_assert_eq!(&proof[..], expected.as_bytes());
        }
        for size in 1..texts.len() {
            let proof = consistency_proof(&hashes, size).unwrap().concat();
            let expected = theirs.prove_consistency(texts.len() - size);
            prop_assert_eq!(&proof[..], expected.as_bytes());
        }
    }

    #[test]
    fn every_proof_of_a_random_tree_verifies_and_no_bent_one(size in 1_usize..200, seed in any::<u64>(), at in any::<prop::sample::Index>()) {
        let hashes: Vec<Hash> = (0..size).map(|index| hash_leaf(&(seed ^ index as u64).to_be_bytes())).collect();
        let root = root_of(&hashes);
        let (index, count) = (at.index(size), size as u64);
        let proof = inclusion_proof(&hashes, index).unwrap();
        prop_assert!(verify_inclusion(&hashes[index], index as u64, count, &proof, &root));
        refuses_bent_inclusions(&hashes[index], index as u64, count, &proof, &root);
        let old = root_of(&hashes[..index + 1]);
        let proof = consistency_proof(&hashes, index + 1).unwrap();
        prop_assert!(verify_consistency((index as u64 + 1, &old), (count, &root), &proof));
        refuses_bent_consistencies(index as u64 + 1, count, &(old, root), &proof);
    }

    #[test]
    fn a_frontier_goes_on_where_it_was_kept(sizes in prop::collection::vec(0_usize..40, 1..8)) {
        let mut frontier = Frontier::default();
        let mut hashes = Vec::new();
        for size in sizes {
            frontier = Frontier::restore(&frontier.head()).unwrap();
            for _ in 0..size {
                let leaf = hash_leaf(&hashes.len().to_be_bytes());
                hashes.push(leaf);
                frontier.push(leaf);
            }
            prop_assert_eq!(frontier.root(), root_of(&hashes));
            prop_assert_eq!(frontier.size(), hashes.len() as u64);
        }
        let mut head = frontier.head();
        head.peaks.push([0; 32]);
        prop_assert_eq!(Frontier::restore(&head), None);
    }
}
