//! What closewatch is tried against, from PyPI and npm: WebSocket libraries under `target/peers`, and schemathesis.

use std::path::PathBuf;

use anyhow::Result;

use crate::{
    libraries,
    shell::{repository, target},
};

/// Python with the libraries of `requirements.txt`: a virtual environment's, once `python` has made it.
pub(crate) fn interpreter() -> PathBuf {
    venv().join("bin/python")
}

pub(crate) fn python() -> Result<PathBuf> {
    let list = lists().join("requirements.txt");
    libraries::python(&venv(), &list, "Python's WebSocket libraries")
}

/// The `node_modules` folder with the libraries of `package-lock.json`.
pub(crate) fn node_modules() -> Result<PathBuf> {
    libraries::node_modules(
        &target().join("peers/node"),
        &lists(),
        "Node's WebSocket libraries",
    )
}

/// The program that tries the API by its description, from PyPI.
pub(crate) fn schemathesis() -> Result<PathBuf> {
    let venv = target().join("schemathesis");
    let list = repository().join("monitor/tests/endpoint/requirements.txt");
    libraries::python(&venv, &list, "schemathesis")?;
    Ok(venv.join("bin/schemathesis"))
}

fn venv() -> PathBuf {
    target().join("peers/venv")
}

fn lists() -> PathBuf {
    repository().join("monitor/tests/peers")
}
