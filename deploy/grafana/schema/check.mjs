// Holds dashboards against Grafana's own types: of a dashboard, and of each panel's options and fields.
//
//     check.mjs NODE_MODULES FILE...
//
// No property that Grafana does not know, no value of another type. What is left out is Grafana's default. What only
// running it would show (an unknown transformation, say) is not found.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join, resolve } from "node:path";

const [modules, ...files] = process.argv.slice(2);
const ts = createRequire(join(resolve(modules), "typescript"))("typescript");
const raw = join(resolve(modules), "@grafana/schema/dist/types/raw");

// JSON has words where TypeScript has enumerations. What the schema leaves to others:
// - Prometheus' part of an annotation;
// - `definition`, a variable in words, which Grafana writes into exports;
// - `auto`, which the SDK writes for every variable and which only those of intervals have;
// - `footer` of a table, which Grafana knew until 12.2 and the SDK still writes.
const head = (panels) => `
import type { AnnotationQuery, Dashboard, VariableModel } from "${raw}/dashboard/x/types.gen";
${panels.map((panel) => `import type * as ${panel} from "${raw}/composable/${panel}/panelcfg/x/types.gen";`).join("\n")}
type Wire<T> =
  T extends string ? \`\${T}\` :
  T extends number | boolean | null | undefined ? T :
  T extends Array<infer U> ? Array<Wire<U>> :
  T extends object ? { [K in keyof T]?: Wire<T[K]> } :
  T;
type Annotation = Wire<AnnotationQuery> & { expr?: string; step?: string; titleFormat?: string; textFormat?: string };
type Variable = Wire<VariableModel> & { definition?: string; auto?: boolean; auto_min?: string; auto_count?: number };
type Board = Omit<Wire<Dashboard>, "annotations" | "templating"> & {
  annotations: { list: Annotation[] };
  templating: { list: Variable[] };
};
type Footer = { footer?: unknown };
`;

// The folder of a kind of panel, and our name for its types.
const kind = (type) => type.replaceAll("-", "");

function typed(board) {
  const panels = board.panels.filter((panel) => panel.type !== "row");
  const kinds = [...new Set(panels.map((panel) => kind(panel.type)))];
  let text = head(kinds) + `const board: Board = ${JSON.stringify(board, null, 1)};\n`;
  for (const { id, type, options, fieldConfig } of panels) {
    text += `const options${id}: Wire<${kind(type)}.Options> & ${type === "table" ? "Footer" : "object"} = ${JSON.stringify(options ?? {}, null, 1)};\n`;
    const custom = fieldConfig?.defaults?.custom;
    if (custom) {
      text += `const custom${id}: Wire<${kind(type)}.FieldConfig> = ${JSON.stringify(custom, null, 1)};\n`;
    }
  }
  return text;
}

function problems(file) {
  const text = typed(JSON.parse(readFileSync(file, "utf8")));
  const options = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    typeRoots: [],
  };
  // In memory, beside the types that it imports.
  const name = join(resolve(modules), basename(file, ".json") + ".ts");
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists, readFile } = host;
  host.fileExists = (path) => path === name || fileExists(path);
  host.readFile = (path) => (path === name ? text : readFile(path));
  host.getSourceFile = (path, target, ...more) =>
    path === name ? ts.createSourceFile(path, text, target, true) : getSourceFile(path, target, ...more);
  const program = ts.createProgram([name], options, host);
  return ts.getPreEmitDiagnostics(program).map((found) => {
    const line = found.file ? found.file.text.slice(found.start).split("\n")[0].trim() : "";
    return `${basename(file)}: ${line}: ${ts.flattenDiagnosticMessageText(found.messageText, " ")}`;
  });
}

const all = files.flatMap(problems);
console.log(all.join("\n") || `${files.length} dashboards are as Grafana's types say`);
process.exitCode = all.length ? 1 : 0;
