use super::{
    facts::{active, is_cgroup2, is_user_namespace, mount_of_most},
    refusal::{Circumstances, refused as refused_because},
    *,
};

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
            cgroup_mount: None,
            cgroup_v1: true,
            ..good()
        },
        "only cgroup v1 is mounted",
    );
    refused(
        Facts {
            is_confidential: true,
            ..good()
        },
        "lockdown=integrity",
    );
    refused(
        Facts {
            is_user_namespace: true,
            ..good()
        },
        "host's user namespace",
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

#[test]
fn what_is_missing_ends_with_a_code_of_its_own() {
    let error = refuse(&judge(&Facts {
        btf: false,
        ..good()
    }));
    assert!(error.unwrap_err().is::<Unfit>());
    let refusal = io::Error::from_raw_os_error(libc::EINVAL);
    assert!(refused_by_kernel(refusal).is::<Unfit>());
    let passing = io::Error::from_raw_os_error(libc::ENOMEM);
    assert!(!refused_by_kernel(passing).is::<Unfit>());
}

fn refused_by_kernel(error: io::Error) -> anyhow::Error {
    super::refused(
        anyhow::Error::new(error).context(Rejected::of("load the program observe_egress")),
        false,
    )
}

#[test]
fn a_refusal_names_what_forbids_it() {
    let nothing = Circumstances::default();
    let told = |circumstances: Circumstances| refused_because("EPERM", &circumstances);
    let cases = [
        (
            Circumstances {
                memlock: Some(65536),
                ..nothing.clone()
            },
            "LimitMEMLOCK=infinity",
        ),
        (
            Circumstances {
                is_filtered: true,
                ..nothing.clone()
            },
            "SystemCallFilter=bpf",
        ),
        (
            Circumstances {
                lockdown: Some("none".to_owned()),
                modules: "lockdown,apparmor".to_owned(),
                ..nothing
            },
            "modules: lockdown,apparmor",
        ),
    ];
    for (circumstances, remedy) in cases {
        let sentence = told(circumstances);
        assert!(sentence.contains(remedy), "{sentence}");
    }
}

#[test]
fn the_active_mode_of_lockdown_is_read() {
    assert_eq!(
        active("none [integrity] confidentiality\n"),
        Some("integrity")
    );
    assert_eq!(active(""), None);
}

#[test]
fn only_the_first_user_namespace_has_every_id() {
    assert!(!is_user_namespace("         0          0 4294967295\n"));
    assert!(!is_user_namespace(""));
    assert!(is_user_namespace("         0       1000          1\n"));
}

fn good() -> Facts {
    Facts {
        kernel: (5, 10),
        is_whole: true,
        cgroup_v1: false,
        is_user_namespace: false,
        is_confidential: false,
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
