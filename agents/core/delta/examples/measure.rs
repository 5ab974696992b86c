use goblin_core_delta::{frame::*, pack::*, patch::*, *};
use goblin_core_types::Digest;
use std::{collections::*, fs, path::*};
fn walk(r: &Path, d: &Path, out: &mut BTreeMap<Digest, (String, Vec<u8>)>) {
    let mut e: Vec<_> = fs::read_dir(d).unwrap().map(|e| e.unwrap()).collect();
    e.sort_by_key(|e| e.path());
    for e in e {
        let t = e.file_type().unwrap();
        if t.is_dir() {
            walk(r, &e.path(), out)
        } else if t.is_file() {
            let b = fs::read(e.path()).unwrap();
            let dg = Digest(*blake3::hash(&b).as_bytes());
            out.entry(dg)
                .or_insert((e.path().strip_prefix(r).unwrap().to_str().unwrap().into(), b));
        }
    }
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (mut o, mut n) = (BTreeMap::new(), BTreeMap::new());
    walk(a[1].as_ref(), a[1].as_ref(), &mut o);
    walk(a[2].as_ref(), a[2].as_ref(), &mut n);
    let missing: Vec<(u32, &Digest)> = n
        .keys()
        .enumerate()
        .filter(|(_, d)| !o.contains_key(d))
        .map(|(i, d)| (i as u32, d))
        .collect();
    eprintln!(
        "missing {} bytes {}",
        missing.len(),
        missing.iter().map(|(_, d)| n[d].1.len()).sum::<usize>()
    );
    if a[3] == "pack" {
        for (large, group) in [(1u64 << 20, 1u64 << 20), (1 << 20, 4 << 20), (4 << 20, 8 << 20)] {
            let items: Vec<Item> = missing
                .iter()
                .map(|(i, d)| Item {
                    ordinal: *i,
                    size: n[d].1.len() as u64,
                    age: 0,
                    path: n[d].0.clone(),
                })
                .collect();
            let mut its = items;
            its.sort_by_cached_key(|i| (i.size >= large, likeness(&i.path)));
            let keys: Vec<&Digest> = n.keys().collect();
            let mut tot = 0;
            let mut cur: Vec<&[u8]> = vec![];
            let mut cb = 0u64;
            let mut fr = 0;
            let t = std::time::Instant::now();
            for it in &its {
                let b = &n[keys[it.ordinal as usize]].1[..];
                if it.size >= large {
                    tot += compress(&[b], Effort::Best).unwrap().len();
                    fr += 1;
                    continue;
                }
                cur.push(b);
                cb += it.size;
                if cb >= group {
                    tot += compress(&cur, Effort::Best).unwrap().len();
                    cur.clear();
                    cb = 0;
                    fr += 1;
                }
            }
            if !cur.is_empty() {
                tot += compress(&cur, Effort::Best).unwrap().len();
                fr += 1;
            }
            println!("large {large} group {group}: {tot} bytes {fr} frames {:?}", t.elapsed());
        }
        return;
    }
    let oldk: Vec<(&Digest, &str)> = o.iter().map(|(d, (p, _))| (d, p.as_str())).collect();
    let mut w: Vec<(u32, &Digest, &str)> =
        missing.iter().map(|(i, d)| (*i, *d, n[d].0.as_str())).collect();
    w.sort_by_key(|x| likeness(x.2));
    let src = resemblance(
        &oldk.iter().map(|x| x.1).collect::<Vec<_>>(),
        &w.iter().map(|x| x.2).collect::<Vec<_>>(),
    );
    println!(
        "no source: {:?}",
        w.iter()
            .zip(&src)
            .filter(|(_, s)| s.is_none())
            .map(|(w, _)| (w.2, n[w.1].1.len()))
            .collect::<Vec<_>>()
    );
    let olds: Vec<(Digest, &[u8])> = oldk.iter().map(|(d, _)| (**d, &o[d].1[..])).collect();
    // only used
    let mut used = BTreeMap::new();
    let mut ol = vec![];
    for s in src.iter().flatten() {
        used.entry(*s).or_insert_with(|| {
            ol.push(olds[*s]);
            ol.len() - 1
        });
    }
    let t: Vec<New> = w
        .iter()
        .zip(&src)
        .map(|(w, s)| New { ordinal: w.0, bytes: &n[w.1].1, source: s.map(|s| used[&s]) })
        .collect();
    let tm = std::time::Instant::now();
    let p = encode(&ol, &t, if a[3] == "quick" { Effort::Quick } else { Effort::Best }).unwrap();
    fs::write(&a[4], &p).unwrap();
    println!(
        "patch {} in {:?} {:?}",
        p.len(),
        tm.elapsed(),
        parse_head(p.first_chunk().unwrap(), p.len() as u64)
    );
}
