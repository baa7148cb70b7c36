//! `deploy/openapi.json` says what is served, and schemathesis tries all that follows from it.

use std::{path::Path, process::Command, thread, time::Duration};

use serde_json::Value;

use crate::{
    traffic::{Traffic, descriptors},
    world::World,
};

/// The description, as operators get it.
fn description() -> (String, Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/openapi.json");
    let text = std::fs::read_to_string(&path).unwrap();
    (
        path.display().to_string(),
        serde_json::from_str(&text).unwrap(),
    )
}

/// A reference followed to what it means.
fn resolve<'a>(description: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(name) => description.pointer(name.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// Whether the value is what the schema says, with nothing besides.
fn covers(description: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let schema = resolve(description, schema);
    if let Some(choices) = schema["anyOf"].as_array() {
        let fits = |choice| covers(description, choice, value).is_ok();
        return choices
            .iter()
            .any(fits)
            .then_some(())
            .ok_or_else(|| value.to_string());
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds: Vec<_> = match schema["type"].as_array() {
        Some(many) => many.iter().filter_map(Value::as_str).collect(),
        None => schema["type"].as_str().into_iter().collect(),
    };
    let fits = kinds.contains(&kind) || kind == "integer" && kinds.contains(&"number");
    if !fits {
        return Err(format!("{value} is none of {kinds:?}"));
    }
    if let (Some(words), Value::String(text)) = (schema["enum"].as_array(), value)
        && !words.iter().any(|word| word == text)
    {
        return Err(format!("{text} is not among {words:?}"));
    }
    if let Value::Array(items) = value {
        for item in items {
            covers(description, &schema["items"], item)?;
        }
    }
    if let Value::Object(fields) = value {
        for required in schema["required"].as_array().into_iter().flatten() {
            let name = required.as_str().unwrap();
            if !fields.contains_key(name) {
                return Err(format!("{name} is missing in {value}"));
            }
        }
        for (name, field) in fields {
            let of_field = match schema["properties"].get(name) {
                Some(schema) => schema,
                None => &schema["additionalProperties"],
            };
            if of_field.is_null() {
                return Err(format!("{name} is not described: {value}"));
            }
            covers(description, of_field, field)?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root"]
fn description_has_every_path_and_every_field() {
    let world = World::open();
    let traffic = Traffic::start(&world, &world.daemon.metrics(), 20, 1);
    traffic.settle(&world, "described", || world.daemon.metrics());
    let (_, description) = description();
    let paths = description["paths"].as_object().unwrap();
    for (path, operations) in paths {
        let get = &operations["get"];
        let response = world.daemon.get(path);
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        let content = get["responses"]["200"]["content"].as_object().unwrap();
        let (media_type, content) = content.iter().next().unwrap();
        let header = format!("content-type: {media_type}");
        assert!(head.contains(&header), "{path}: {head}");
        if media_type == "application/json" {
            let answer: Value = serde_json::from_str(body).unwrap();
            if let Err(why) = covers(&description, &content["schema"], &answer) {
                panic!("{path}: {why}");
            }
            let unknown = world.daemon.get(&format!("{path}?unknown=1"));
            let (head, body) = unknown.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 400"), "{path}: {head}");
            let refusal: Value = serde_json::from_str(body).unwrap();
            let schema = &get["responses"]["400"]["content"]["application/json"]["schema"];
            covers(&description, schema, &refusal).unwrap();
            // It names the parameters that there are: those of the description.
            let told = refusal["error"]["message"].as_str().unwrap();
            for parameter in get["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().unwrap();
                assert!(told.contains(name), "{path}: {name}: {told}");
            }
        }
    }
    // And the other way round: what the source serves is described, but for the page's own files.
    let source = include_str!("../../src/http.rs");
    for route in source.split(".route(\"").skip(1) {
        let path = route.split('"').next().unwrap();
        assert!(paths.contains_key(path), "{path} is not described");
    }
}

#[test]
#[ignore = "needs root"]
fn schemathesis_finds_nothing() {
    let program = std::env::var("CLOSEWATCH_TEST_SCHEMATHESIS")
        .expect("CLOSEWATCH_TEST_SCHEMATHESIS is not set: `cargo xtask test` provides it");
    let world = World::open();
    let before = descriptors(world.daemon.pid());
    let (path, _) = description();
    let traffic = Traffic::start(&world, &world.daemon.metrics(), 20, 5);
    let output = Command::new("timeout")
        .args(["90", &program, "run", "--url"])
        .arg(format!("http://{}", world.daemon.listen))
        // A server's address has a form that the description cannot tell to a machine.
        .args([
            "--checks",
            "all",
            "--exclude-checks",
            "positive_data_acceptance",
        ])
        .args(["--max-examples", "40", "--seed", "1", "--no-color"])
        .args(["--suppress-health-check", "all", &path])
        .current_dir(world.folder())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let cases = said
        .lines()
        .find(|line| line.contains(" generated"))
        .unwrap();
    eprintln!("schemathesis: {}", cases.trim());
    traffic.settle(&world, "schemathesis", || world.daemon.metrics());
    thread::sleep(Duration::from_millis(300));
    assert!(descriptors(world.daemon.pid()) <= before + 1);
}
