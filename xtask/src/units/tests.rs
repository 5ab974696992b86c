use super::*;

const GOOD: &str =
    "description = 'd'\nkind = 'service'\nexec = ['/usr/bin/goblin']\ngate = true\n[sandbox]\n";

fn refusal(files: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(format!("{name}.toml")), text).unwrap();
    }
    let err = load(dir.path(), |path| path == "/usr/bin/goblin").unwrap_err();
    err.to_string().replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn the_shipped_units_can_all_start() {
    check(Table::Compare).unwrap();
}

#[test]
fn what_no_board_could_start_is_named_by_file_line_and_remedy() {
    let plain = GOOD.replace("gate = true\n", "");
    for (text, expected) in [
        (format!("{plain}user = 'www'\n"), "b.toml:5: `sandbox.user` is `www`"),
        (format!("{plain}seccomp = ['@all']\n"), "b.toml:5: `sandbox.seccomp` has `@all`; write @"),
        (format!("{plain}[limits]\npids_max = 0\n"), "b.toml:6: `limits.pids_max` is 0"),
        (
            format!("{plain}[limits]\nio_max = {{ write_kib_per_s = 1 }}\n"),
            "b.toml:6: `limits.io_max.write_kib_per_s` is 1, which is not from 64",
        ),
        (format!("{plain}colour = 1\n"), "b.toml:5: unknown field `colour`"),
        (format!("critical = true\n{plain}"), "b.toml:1: `critical`: nobody would notice"),
        (plain.replace("goblin'", "gnome'"), "b.toml:3: `exec`: the base has no program"),
        (plain.replace("[sandbox]", ""), "b.toml:1: `sandbox` is missing; write"),
        (format!("{plain}[limits]\npids_max = = 1\n"), "b.toml:6: "),
        (plain.replace("'service'", "'servant'"), "; write one of those words"),
    ] {
        let text = refusal(&[("a", GOOD), ("b", &text)]);
        assert!(text.contains(expected), "{text}\n{expected}");
    }
    assert!(refusal(&[("a", &plain)]).contains("exactly one"));
    // Every name is there, and there is no circle; but not on every board.
    let pool = format!("roles = ['storage']\n{plain}");
    let text =
        refusal(&[("a", GOOD), ("pool", &pool), ("b", &format!("requires = ['pool']\n{plain}"))]);
    for expected in [
        "b.toml:1: `requires`: never becomes ready on the compute board; on the compute board, on trial; on a board",
        "needs pool, which is off; give it",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    assert!(!text.contains("storage board"), "{text}");
}

#[test]
fn what_is_wrong_with_a_dependency_is_named_by_its_own_key_and_line() {
    let plain = GOOD.replace("gate = true\n", "");
    for key in ["requires", "milestone", "after"] {
        let missing =
            plain.replace("[sandbox]", &format!("{key} = [\n  'a',\n  'c',\n]\n[sandbox]"));
        let text = refusal(&[("a", GOOD), ("b", &missing)]);
        assert!(text.starts_with(&format!("b.toml:6: `{key}` names `c`")), "{text}");
    }
    for key in ["requires", "milestone", "wants", "after"] {
        let names = |to: &str| plain.replace("[sandbox]", &format!("{key} = ['{to}']\n[sandbox]"));
        let text = refusal(&[("a", GOOD), ("b", &names("c")), ("c", &names("b"))]);
        for (file, path) in [("b", "b -> c -> b"), ("c", "c -> b -> c")] {
            let expected =
                format!("{file}.toml:4: `{key}` makes it wait for itself: {path}; remove");
            assert!(text.contains(&expected), "{text}");
        }
    }
    // Not on every board: by a word that only needs it once, too.
    let pool = format!("roles = ['storage']\n{plain}");
    let user = plain.replace("[sandbox]", "milestone = ['pool']\n[sandbox]");
    let text = refusal(&[("a", GOOD), ("pool", &pool), ("b", &user)]);
    assert!(text.contains("b.toml:4: `milestone`: never becomes ready on the compute"), "{text}");
}

#[test]
fn every_sandbox_has_its_compiled_list() {
    let units = load(&folder(), |_| true).unwrap();
    let filters = filters(&units);
    assert_eq!(filters.len(), units.len());
    assert!(filters.iter().all(|(path, bytes)| path.ends_with(".bpf") && !bytes.is_empty()));
}
