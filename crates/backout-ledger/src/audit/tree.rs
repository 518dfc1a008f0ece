//! The Merkle tree of RFC 6962: hashes, the frontier that appending needs, and proofs.

use backout_core::ports::audit::AuditHead;
use sha2::{Digest, Sha256};

/// A hash of the tree.
pub type Hash = [u8; 32];

/// Hash of a leaf.
#[must_use]
pub fn hash_leaf(bytes: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(bytes);
    hash.finalize().into()
}

/// Hash of an inner node.
#[must_use]
pub fn hash_children(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// Root of the tree without leaves.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// What is needed of a tree to append to it: the roots of its whole subtrees, the largest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The frontier that a store kept; none if its parts do not fit together.
    #[must_use]
    pub fn restore(head: &AuditHead) -> Option<Self> {
        let fits = head.peaks.len() == head.size.count_ones() as usize;
        fits.then(|| Self { size: head.size, peaks: head.peaks.clone() })
    }

    /// As a store keeps it.
    #[must_use]
    pub fn head(&self) -> AuditHead {
        AuditHead { size: self.size, peaks: self.peaks.clone() }
    }

    /// How many leaves there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        // Each trailing one of the size is a whole subtree that the new leaf completes.
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("there is a peak for each bit of the size");
            node = hash_children(&left, &node);
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// Root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(*last, |right, left| hash_children(left, &right))
    }

    /// The leaves under each peak: the first one and how many.
    pub(crate) fn ranges(size: u64) -> impl Iterator<Item = (u64, u64)> {
        let mut first = 0;
        (0..u64::BITS).rev().map(|bit| 1_u64 << bit).filter(move |part| size & part != 0).map(
            move |part| {
                first += part;
                (first - part, part)
            },
        )
    }

    /// The peaks, the largest first.
    pub(crate) fn peaks(&self) -> &[Hash] {
        &self.peaks
    }
}

/// Root over leaf hashes.
#[must_use]
pub fn root_of(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            hash_children(&root_of(left), &root_of(right))
        }
    }
}

/// The largest power of two below `count`, which is at least two.
fn split(count: usize) -> usize {
    1 << (usize::BITS - 1 - (count - 1).leading_zeros())
}

/// Proof that leaf `index` is in the tree over `leaves` (RFC 6962, 2.1.1); none if there is no such leaf.
#[must_use]
pub fn inclusion_proof(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut proof, mut part, mut index) = (Vec::new(), leaves, index);
    while part.len() > 1 {
        let middle = split(part.len());
        let (left, right) = part.split_at(middle);
        if index < middle {
            proof.push(root_of(right));
            part = left;
        } else {
            proof.push(root_of(left));
            part = right;
            index -= middle;
        }
    }
    proof.reverse();
    Some(proof)
}

/// Proof that the tree over the first `size` leaves is the beginning of the tree over all (RFC 6962, 2.1.2); none
/// if there are not so many.
#[must_use]
pub fn consistency_proof(leaves: &[Hash], size: usize) -> Option<Vec<Hash>> {
    if size > leaves.len() {
        return None;
    }
    if size == 0 || size == leaves.len() {
        return Some(Vec::new());
    }
    let (mut proof, mut part, mut size, mut known) = (Vec::new(), leaves, size, true);
    while size < part.len() {
        let middle = split(part.len());
        let (left, right) = part.split_at(middle);
        if size <= middle {
            proof.push(root_of(right));
            part = left;
        } else {
            proof.push(root_of(left));
            part = right;
            size -= middle;
            known = false;
        }
    }
    if !known {
        proof.push(root_of(part));
    }
    proof.reverse();
    Some(proof)
}

/// Whether a proof leads from a leaf to a root (RFC 9162, 2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for step in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = hash_children(step, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = hash_children(&hash, step);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether a proof shows that a tree is the beginning of another one (RFC 9162, 2.1.4.2).
#[must_use]
pub fn verify_consistency(
    (old_size, old_root): (u64, &Hash),
    (new_size, new_root): (u64, &Hash),
    proof: &[Hash],
) -> bool {
    if old_size > new_size {
        return false;
    }
    if old_size == new_size {
        return proof.is_empty() && old_root == new_root;
    }
    if old_size == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    // Where the old tree is one whole subtree of the new one its root is not repeated in the proof.
    let mut steps = proof.iter();
    let first = if old_size.is_power_of_two() { Some(old_root) } else { steps.next() };
    let Some(first) = first else { return false };
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old, mut new) = (*first, *first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old = hash_children(step, &old);
            new = hash_children(step, &new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new = hash_children(&new, step);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old == *old_root && new == *new_root
}
