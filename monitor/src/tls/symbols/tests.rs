use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::*;

/// Functions that begin with their names, in the order that the table of symbols may have.
const SSL: [&str; 7] = [
    "SSL_write_ex",
    "SSL_read",
    "SSL_free",
    "SSL_do_handshake",
    "SSL_write",
    "BIO_write",
    "SSL_read_ex",
];

/// Compiles a program or library that has these functions.
fn compile(folder: &Path, functions: &[&str], flags: &[&str]) -> PathBuf {
    let mut source = String::from("int main(void) { return 0; }\n");
    for name in functions {
        source += &format!(
            "__asm__(\".text\\n.globl {name}\\n.type {name},%function\\n{name}: .ascii \\\"{name}!\\\"\\n\
             .size {name}, . - {name}\\n\");\n"
        );
    }
    let (code, built) = (folder.join("code.c"), folder.join("built"));
    fs::write(&code, source).unwrap();
    let status = Command::new("cc")
        .args(flags)
        .arg(&code)
        .arg("-o")
        .arg(&built)
        .status();
    assert!(status.unwrap().success(), "cc {flags:?}");
    built
}

/// What was found, each by the name that stands in the file where it is said to begin.
fn found(built: &Path) -> Vec<String> {
    let file = File::open(built).unwrap();
    let name = |(function, offset): (Function, u64)| {
        let mut begin = vec![0; function.symbol().len() + 1];
        file.read_exact_at(&mut begin, offset).unwrap();
        let begin = String::from_utf8(begin).unwrap();
        assert_eq!(begin, format!("{}!", function.symbol()));
        function.symbol().to_owned()
    };
    functions(&file).into_iter().map(name).collect()
}

fn all() -> Vec<String> {
    Function::ALL
        .iter()
        .map(|function| function.symbol().to_owned())
        .collect()
}

#[test]
fn functions_are_found_where_they_begin_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for flags in [
        &["-shared", "-fPIC"][..],
        &["-shared", "-fPIC", "-s"],
        &["-no-pie"],
        &["-pie"],
        &["-static"],
        &["-static-pie"],
        &["-pie", "-rdynamic", "-s"],
        &["-no-pie", "-Wl,-Ttext-segment=0x10000000"],
        &["-shared", "-fPIC", "-Wl,-O2", "-Wl,--hash-style=sysv"],
    ] {
        assert_eq!(found(&compile(folder, &SSL, flags)), all(), "{flags:?}");
    }
}

#[test]
fn what_lacks_is_not_made_up() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let stripped = compile(folder, &SSL, &["-pie", "-s"]);
    assert_eq!(found(&stripped), Vec::<String>::new(), "it has no names");
    let old = compile(folder, &["SSL_read", "SSL_write"], &["-no-pie"]);
    assert_eq!(found(&old), ["SSL_read", "SSL_write"]);
    let others = ["MY_SSL_read", "SSL_write_early", "BIO_writev"];
    let others = compile(folder, &others, &["-no-pie"]);
    assert_eq!(found(&others), Vec::<String>::new());
}

/// What a program only calls, it has no beginning of.
#[test]
fn callers_are_no_library() {
    let folder = tempfile::tempdir().unwrap();
    let library = compile(folder.path(), &SSL, &["-shared", "-fPIC"]);
    let named = folder.path().join("libours.so");
    fs::rename(library, named).unwrap();
    let code = folder.path().join("calls.c");
    fs::write(
        &code,
        "void SSL_write(void); void *p = SSL_write; int main(void) { SSL_write(); return 0; }",
    )
    .unwrap();
    let calls = folder.path().join("calls");
    let command = ["-no-pie", "-L", folder.path().to_str().unwrap(), "-lours"];
    let mut cc = Command::new("cc");
    cc.arg(&code).args(command).arg("-o").arg(&calls);
    assert!(cc.status().unwrap().success());
    assert_eq!(functions(&File::open(calls).unwrap()), []);
}

#[test]
fn other_files_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let program = fs::read("/proc/self/exe").unwrap();
    let foreign = {
        let mut bytes = program[..4096].to_vec();
        bytes[18] ^= 0xff;
        bytes
    };
    for bytes in [
        &b""[..],
        b"#!/bin/sh\nSSL_write",
        &program[..50],
        &program[..4096],
        &foreign,
    ] {
        fs::write(&path, bytes).unwrap();
        assert_eq!(functions(&File::open(&path).unwrap()), []);
    }
    assert!(!is_program(&File::open(&path).unwrap()));
    assert!(is_program(&File::open("/proc/self/exe").unwrap()));
}

#[test]
fn version_is_in_openssls_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let version_of = |text: &str| {
        let code = folder.path().join("text.c");
        fs::write(&code, format!("const char text[] = \"\\0{text}\";\n")).unwrap();
        let built = folder.path().join("text");
        let mut cc = Command::new("cc");
        let status = cc
            .args(["-shared", "-fPIC"])
            .arg(&code)
            .arg("-o")
            .arg(&built);
        assert!(status.status().unwrap().success());
        version(&File::open(&built).unwrap())
    };
    let found = version_of("OpenSSL default\\0OpenSSL 3.0.22 25 Aug 2026\\0OpenSSL 9");
    assert_eq!(found.as_deref(), Some("OpenSSL 3.0.22 25 Aug 2026"));
    assert_eq!(version_of("OpenSSL default\\0not OpenSSL 3"), None);
    assert_eq!(version_of(&format!("OpenSSL {}", "1".repeat(64))), None);
}
