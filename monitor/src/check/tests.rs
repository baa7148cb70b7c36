use super::*;

#[test]
fn host_that_has_everything_is_not_refused() {
    let findings = judge(&good());
    assert!(refuse(&findings).is_ok(), "{findings:?}");
    assert_eq!(findings.len(), 4);
}

#[test]
fn sys_admin_stands_for_the_three() {
    let capabilities = CapsHashSet::from([Capability::CAP_SYS_ADMIN]);
    assert!(
        refuse(&judge(&Facts {
            capabilities,
            ..good()
        }))
        .is_ok()
    );
}

#[test]
fn each_thing_that_is_missing_is_told_with_its_remedy() {
    refused(
        Facts {
            kernel: (5, 9),
            ..good()
        },
        "boot 5.10 or newer",
    );
    refused(
        Facts {
            kernel: (4, 19),
            ..good()
        },
        "boot 5.10 or newer",
    );
    refused(
        Facts {
            cgroup_mount: None,
            ..good()
        },
        "mount -t cgroup2",
    );
    refused(
        Facts {
            cgroup_chosen: Some(("/tmp".into(), false)),
            ..good()
        },
        "--cgroup",
    );
    refused(
        Facts {
            btf: false,
            ..good()
        },
        "CONFIG_DEBUG_INFO_BTF",
    );
    let capabilities = CapsHashSet::from([Capability::CAP_BPF, Capability::CAP_NET_ADMIN]);
    refused(
        Facts {
            capabilities,
            ..good()
        },
        "needs CAP_PERFMON to load",
    );
}

#[test]
fn any_directory_is_no_cgroup() {
    assert!(!is_cgroup2(Path::new("/tmp")));
}

fn good() -> Facts {
    Facts {
        kernel: (5, 10),
        is_whole: true,
        cgroup_mount: Some("/sys/fs/cgroup/unified".into()),
        cgroup_chosen: None,
        btf: true,
        capabilities: CapsHashSet::from([
            Capability::CAP_BPF,
            Capability::CAP_PERFMON,
            Capability::CAP_NET_ADMIN,
        ]),
    }
}

fn refused(facts: Facts, remedy: &str) {
    let error = refuse(&judge(&facts)).unwrap_err().to_string();
    assert!(error.contains(remedy), "{error}");
}

#[test]
fn whole_hierarchy_is_found_beside_the_part_of_a_container() {
    let part = tempfile::tempdir().unwrap();
    let [part, bound] = [part.path().to_owned(), part.path().join("bound")];
    // Its inode is 1 too.
    let whole = PathBuf::from("/proc");
    for (mounts, most) in [
        (
            vec![(true, part.clone()), (false, whole.clone())],
            Some(whole.clone()),
        ),
        (vec![(true, whole.clone())], Some(whole)),
        (
            vec![(false, bound.clone()), (true, part.clone())],
            Some(part),
        ),
        (vec![(false, bound)], None),
    ] {
        assert_eq!(mount_of_most(mounts.into_iter()), most);
    }
}
