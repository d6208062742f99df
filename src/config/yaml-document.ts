/**
 * A YAML text as plain values that remember where they stand and which of them came from the
 * environment. Expands `${NAME}` and `${NAME:-default}` in values (not in keys); `$${` is a
 * literal `${`.
 */
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, visit } from 'yaml';
import { type ConfigPath, type ConfigProblem, formatPath } from './problem.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** A parsed file. `value` is undefined when the YAML itself is broken. */
export interface YamlDocument {
  readonly value: unknown;
  readonly problems: readonly ConfigProblem[];
  /** One-based line of the node at `path`, or of its closest existing ancestor. */
  lineOf(path: ConfigPath): number;
  /** Whether any of the scalar at `path` came from an environment variable. */
  fromEnvironment(path: ConfigPath): boolean;
}

const REFERENCE = /\$\$\{|\uE000|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}\n]*))?\}/g;

/**
 * References are masked by private-use characters while YAML is parsed: a brace would otherwise
 * break an unquoted value inside `{...}`, as in `{name: ops, token: ${OPS_TOKEN}}`.
 */
const MASK_START = '\uE000';
const MASKED = /\uE000(\d+)\uE001/g;

interface Reference {
  readonly source: string;
  /** undefined for an escaped `$${`, and for the first character of a mask. */
  readonly name: string | undefined;
  readonly fallback: string | undefined;
}

function maskReferences(text: string): {
  readonly masked: string;
  readonly references: Reference[];
} {
  const references: Reference[] = [];
  const masked = text.replace(REFERENCE, (source, name?: string, fallback?: string) => {
    references.push({ source, name, fallback });
    return `\uE000${references.length - 1}\uE001`;
  });
  return { masked, references };
}

interface Expansion {
  readonly text: string;
  readonly fromEnvironment: boolean;
  readonly missing: readonly string[];
}

function expand(
  masked: string,
  references: readonly Reference[],
  environment: Environment,
): Expansion {
  const missing: string[] = [];
  let fromEnvironment = false;
  const text = masked.replace(MASKED, (mask, index: string) => {
    const reference = references[Number(index)];
    // An escape in the file made what only looks like a mask.
    if (!reference) return mask;
    const { source, name, fallback } = reference;
    if (name === undefined) return source === MASK_START ? source : '${';
    fromEnvironment = true;
    const value = environment[name] ?? fallback;
    if (value === undefined) missing.push(name);
    return value ?? '';
  });
  return { text, fromEnvironment, missing };
}

/** Parses and expands; every problem is reported, none thrown. */
export function readYaml(text: string, environment: Environment): YamlDocument {
  const lines = new LineCounter();
  const { masked, references } = maskReferences(text);
  const document = parseDocument(masked, {
    lineCounter: lines,
    prettyErrors: false,
    logLevel: 'error',
  });
  const lineAt = (offset: number): number => Math.max(1, lines.linePos(offset).line);
  // What follows the first broken place is noise; a doubled key breaks nothing else.
  const firstBroken = document.errors.find((error) => error.code !== 'DUPLICATE_KEY');
  const problems: ConfigProblem[] = document.errors
    .filter((error) => error.code === 'DUPLICATE_KEY' || error === firstBroken)
    .map((error) => ({
      path: '',
      line: lineAt(error.pos[0]),
      found: error === firstBroken ? `broken YAML (${error.message})` : 'a key that is there twice',
      expected: error === firstBroken ? 'a YAML document' : 'each key once',
      remedy: '',
    }));

  const fromEnvironment = new Set<Node>();
  visit(document, {
    Scalar(key, node, ancestors) {
      if (typeof node.value !== 'string' || !node.value.includes('\uE000')) return;
      if (key === 'key') {
        node.value = node.value.replace(
          MASKED,
          (mask, at: string) => references[Number(at)]?.source ?? mask,
        );
        return;
      }
      const expansion = expand(node.value, references, environment);
      node.value = expansion.text;
      if (expansion.fromEnvironment) fromEnvironment.add(node);
      for (const name of expansion.missing) {
        problems.push({
          path: pathOf(node, ancestors),
          line: lineAt(node.range?.[0] ?? 0),
          found: `\${${name}}, which is not set in the environment`,
          expected: 'a value',
          remedy: `set ${name}, or give a default as \${${name}:-default}`,
        });
      }
    },
  });

  let value: unknown;
  try {
    if (document.errors.length === 0) value = document.toJS();
  } catch (thrown) {
    // Aliases that multiply beyond all measure.
    const found = `broken YAML (${(thrown as Error).message})`;
    problems.push({ path: '', line: 1, found, expected: 'a YAML document', remedy: '' });
  }
  return {
    value,
    problems,
    lineOf: (path) => {
      let offset = document.contents?.range?.[0] ?? 0;
      let node: unknown = document.contents;
      for (const part of path) {
        const step = stepInto(node, part);
        if (!step) break;
        offset = step.offset ?? offset;
        node = step.node;
      }
      return lineAt(offset);
    },
    fromEnvironment: (path) => {
      const node = path.reduce<unknown>((at, part) => stepInto(at, part)?.node, document.contents);
      return fromEnvironment.has(node as Node);
    },
  };
}

/** A child of a mapping (positioned at its key) or of a sequence. */
function stepInto(
  node: unknown,
  part: string | number,
): { readonly node: unknown; readonly offset: number | undefined } | undefined {
  if (isMap(node)) {
    const pair = node.items.find(
      (p) => (isScalar(p.key) ? String(p.key.value) : p.key) === String(part),
    );
    return pair && { node: pair.value, offset: (pair.key as Node).range?.[0] };
  }
  if (isSeq(node) && typeof part === 'number') {
    const item = node.items[part];
    return item === undefined ? undefined : { node: item, offset: (item as Node).range?.[0] };
  }
  return undefined;
}

function pathOf(node: Node, ancestors: readonly unknown[]): string {
  const path: (string | number)[] = [];
  const chain = [...ancestors, node];
  for (const [index, ancestor] of chain.entries()) {
    const child = chain[index + 1];
    if (isSeq(ancestor)) path.push(ancestor.items.indexOf(child));
    else if (isMap(ancestor)) {
      const key = (child as { readonly key?: unknown }).key;
      path.push(isScalar(key) ? String(key.value) : '?');
    }
  }
  return formatPath(path);
}
