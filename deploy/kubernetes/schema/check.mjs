// Holds manifests against the schemas of Kubernetes and of Prometheus Operator, offline.
//
//     check.mjs NODE_MODULES FILE...
//
// By the schema: nothing required is lacking, every value is of its type. By the types made of it: no property is
// there that is not known. What only a cluster would say (an image that does not exist, say) is not found.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, ...files] = process.argv.slice(2);
const modules = resolve(folder);
const require = createRequire(join(modules, "here.js"));
const ts = require("typescript");
const { parseAllDocuments } = require("yaml");

// Where the class of a kind is.
function place({ apiVersion, kind }) {
  const group = apiVersion.startsWith("monitoring.coreos.com/") ? "@kubernetes-models/prometheus-operator" : "kubernetes-models";
  return join(modules, group, apiVersion, kind);
}

async function refused(manifest) {
  const { [manifest.kind]: Kind } = await import(pathToFileURL(`${place(manifest)}.js`));
  try {
    new Kind(manifest).validate();
    return [];
  } catch (error) {
    return [error.message];
  }
}

function unknown(manifest) {
  const text = `import type { I${manifest.kind} } from "${place(manifest)}";\nconst manifest: I${manifest.kind} = ${JSON.stringify(manifest, null, 1)};\n`;
  const options = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    typeRoots: [],
  };
  // In memory, beside the types that it imports.
  const name = join(modules, "manifest.ts");
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists, readFile } = host;
  host.fileExists = (path) => path === name || fileExists(path);
  host.readFile = (path) => (path === name ? text : readFile(path));
  host.getSourceFile = (path, target, ...more) =>
    path === name ? ts.createSourceFile(path, text, target, true) : getSourceFile(path, target, ...more);
  const program = ts.createProgram([name], options, host);
  return ts.getPreEmitDiagnostics(program).map((found) => ts.flattenDiagnosticMessageText(found.messageText, " "));
}

let manifests = 0;
const problems = [];
for (const file of files) {
  for (const document of parseAllDocuments(readFileSync(file, "utf8"))) {
    const broken = document.errors.map((error) => error.message);
    const manifest = document.toJS();
    const found = broken.length ? broken : [...(await refused(manifest)), ...unknown(manifest)];
    problems.push(...found.map((problem) => `${basename(file)}, ${manifest?.kind}: ${problem}`));
    manifests += 1;
  }
}
console.log(problems.join("\n") || `${manifests} manifests are as the schemas say`);
process.exitCode = problems.length ? 1 : 0;
