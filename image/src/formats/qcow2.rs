//! qcow2, version 3 (QEMU, docs/interop/qcow2.txt): clusters of 64 KiB, those of zeros left out.
//!
//! | clusters | what |
//! |---|---|
//! | 1 | the header |
//! | 1 | the table of reference counts |
//! | as many as it takes | reference counts, 16 bits each |
//! | as many as it takes | the L1 table, of L2 tables |
//! | as many as it takes | the L2 tables, of clusters |
//! | the rest | data |

use super::bytes::{FormatError, is_zero, whole};

const CLUSTER_BITS: u32 = 16;
const CLUSTER: usize = 1 << CLUSTER_BITS;

/// Entries of 8 bytes in a cluster.
const ENTRIES: usize = CLUSTER / 8;
/// Counts of 16 bits in a cluster.
const COUNTS: usize = CLUSTER / 2;
const COUNT_BITS_LOG2: u32 = 4;

const HEADER_LEN: u32 = 104;

/// Set in an entry whose cluster is used once.
const COPIED: u64 = 1 << 63;

pub fn write(disk: &[u8]) -> Result<Vec<u8>, FormatError> {
    let size = whole(disk, 512, "512-byte sectors")?;
    let clusters: Vec<&[u8]> = disk.chunks(CLUSTER).collect();
    let data = clusters.iter().filter(|cluster| !is_zero(cluster)).count();
    let l2_tables = clusters.len().div_ceil(ENTRIES);
    let l1_clusters = l2_tables.div_ceil(ENTRIES);
    let others = 2 + l1_clusters + l2_tables + data;
    // The counts count themselves.
    let mut count_clusters = others.div_ceil(COUNTS);
    while (others + count_clusters).div_ceil(COUNTS) > count_clusters {
        count_clusters += 1;
    }
    let used = others + count_clusters;
    let l1_at = 2 + count_clusters;
    let l2_at = l1_at + l1_clusters;
    let data_at = l2_at + l2_tables;

    let mut file = vec![0; used * CLUSTER];
    let header: [&[u8]; 15] = [
        b"QFI\xfb",
        &3u32.to_be_bytes(),
        &[0; 12], // no backing file
        &CLUSTER_BITS.to_be_bytes(),
        &size.to_be_bytes(),
        &[0; 4], // not encrypted
        &(l2_tables as u32).to_be_bytes(),
        &place(l1_at).to_be_bytes(),
        &place(1).to_be_bytes(),
        &1u32.to_be_bytes(),
        &[0; 12], // no snapshots
        &[0; 24], // no features
        &COUNT_BITS_LOG2.to_be_bytes(),
        &HEADER_LEN.to_be_bytes(),
        &[0; 8], // no extensions
    ];
    put(&mut file, 0, &header.concat());
    for i in 0..count_clusters {
        put(&mut file, CLUSTER + 8 * i, &place(2 + i).to_be_bytes());
    }
    for i in 0..used {
        put(&mut file, 2 * CLUSTER + 2 * i, &1u16.to_be_bytes());
    }
    for i in 0..l2_tables {
        let entry = COPIED | place(l2_at + i);
        put(&mut file, l1_at * CLUSTER + 8 * i, &entry.to_be_bytes());
    }
    let mut next = data_at;
    for (i, cluster) in clusters.iter().enumerate() {
        if !is_zero(cluster) {
            let entry = COPIED | place(next);
            put(&mut file, l2_at * CLUSTER + 8 * i, &entry.to_be_bytes());
            put(&mut file, next * CLUSTER, cluster);
            next += 1;
        }
    }
    Ok(file)
}

/// Where a cluster is in the file.
fn place(cluster: usize) -> u64 {
    (cluster as u64) << CLUSTER_BITS
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}
