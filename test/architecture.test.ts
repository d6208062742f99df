/**
 * Keeps the map, the dependency rules (style D1 to D3) and the invariant numbers true.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { test } from 'node:test';

const root = resolve(import.meta.dirname, '..');

function filesBelow(folder: string, ending: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .map((name) => `${folder}/${name.replaceAll('\\', '/')}`)
    .filter((name) => statSync(join(root, name)).isFile());
}

const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const sources = filesBelow('src', '.ts').filter((path) => !path.endsWith('.d.ts'));
const tests = filesBelow('test', '.ts');

/** Modules a file imports: package names, `node:` names, and paths below the root. */
function importsOf(path: string): { readonly target: string; readonly typeOnly: boolean }[] {
  const pattern = /^(?:import|export)\s+(type\s)?(?:[^'";=]*\sfrom\s+)?'([^']+)';/gms;
  return [...read(path).matchAll(pattern)].map((match) => {
    const specifier = match[2]!;
    const target = specifier.startsWith('.')
      ? relative(root, resolve(root, dirname(path), specifier)).replaceAll('\\', '/')
      : specifier;
    return { target, typeOnly: match[1] !== undefined };
  });
}

const isExternal = (target: string): boolean => !target.startsWith('src/');

test('D1 decisions, semantics and assignment touch no runtime, no package and no ambient time', () => {
  assert.ok(importsOf('src/main.ts').length > 3);
  const pure = sources.filter(
    (path) =>
      path.startsWith('src/pipeline/') ||
      path.endsWith('/behavior.ts') ||
      path === 'src/actors/runtime/supervision.ts' ||
      ['assignment.ts', 'placement.ts', 'units.ts'].some(
        (name) => path === `src/supervisor/${name}`,
      ),
  );
  assert.ok(pure.length > 10);
  const offenders = pure.flatMap((path) =>
    importsOf(path)
      .filter(({ target }) => isExternal(target) || target === 'src/ambient.ts')
      .map(({ target }) => `${path} imports ${target}`),
  );
  assert.deepEqual(offenders, []);
});

test('D2 adapters are named by the composition root and by factories of their own folder only', () => {
  const adapter = /\/(kafka|embedded|redis|bullmq|s3|fs|memory)-[a-z-]+\.ts$/;
  const offenders = sources.flatMap((path) =>
    importsOf(path)
      .filter(({ target, typeOnly }) => !typeOnly && adapter.test(target))
      .filter(({ target }) => path !== 'src/main.ts' && dirname(path) !== dirname(target))
      .map(({ target }) => `${path} imports ${target}`),
  );
  assert.deepEqual(offenders, []);
});

test('D2 an actor knows only the messages of another', () => {
  const offenders = sources.flatMap((path) => {
    const own = /^src\/actors\/([a-z]+-[a-z]+)\//.exec(path)?.[1];
    if (!own) return [];
    return importsOf(path)
      .filter(({ target, typeOnly }) => {
        const other = /^src\/actors\/([a-z]+-[a-z]+)\/(.*)$/.exec(target);
        return (
          other &&
          other[1] !== own &&
          other[1] !== 'stage-writer' &&
          !typeOnly &&
          other[2] !== 'messages.ts'
        );
      })
      .map(({ target }) => `${path} imports ${target}`);
  });
  assert.deepEqual(offenders, []);
});

test('D3 nobody imports the composition root, nothing is exported by default, no folder has a barrel', () => {
  for (const path of sources) {
    assert.ok(!importsOf(path).some(({ target }) => target === 'src/main.ts'), path);
    assert.ok(!/^export default/m.test(read(path)), path);
    assert.ok(!path.endsWith('/index.ts'), path);
  }
});

test('every source file says what it is for', () => {
  const silent = sources.filter((path) => !/^(#!.*\n)?\/\*\*/.test(read(path)));
  assert.deepEqual(silent, []);
});

test('every exported function is documented', () => {
  const undocumented = sources.flatMap((path) => {
    const lines = read(path).split('\n');
    return lines.flatMap((line, index) => {
      if (!/^export (async )?function\b/.test(line)) return [];
      const before = lines[index - 1] ?? '';
      return /\*\/\s*$/.test(before) || before.startsWith('//')
        ? []
        : [`${path}:${index + 1} ${line}`];
    });
  });
  assert.deepEqual(undocumented, []);
});

test('no source file is longer than 700 lines', () => {
  const long = sources.filter((path) => read(path).split('\n').length > 700);
  assert.deepEqual(long, []);
});

test('the map of ARCHITECTURE.md names existing files, and every folder of src', () => {
  const text = read('ARCHITECTURE.md');
  const named = [
    ...text.matchAll(/`((?:src|test|tools|deploy|docs|schema|examples)\/[A-Za-z0-9_./-]*)`/g),
  ].map((m) => m[1]!);
  const missing = named.filter((path) => !statSync(join(root, path), { throwIfNoEntry: false }));
  assert.deepEqual(missing, []);
  const folders = new Set(sources.map((path) => dirname(path)));
  const unnamed = [...folders].filter(
    (folder) =>
      !named.some((name) => name.replace(/\/$/, '') === folder || name.startsWith(`${folder}/`)),
  );
  assert.deepEqual(unnamed, []);
});

test('every invariant that a source file states is cited by a test or by code that keeps it', () => {
  const everything = [...sources, ...tests].map((path) => [path, read(path)] as const);
  const uncited: string[] = [];
  for (const path of sources) {
    const header = /^(?:#!.*\n)?\/\*\*.*?\*\//s.exec(read(path))?.[0] ?? '';
    for (const [, number] of header.matchAll(/^ \*\s+(?:- |Invariant )?([A-Z]{2}\d+)[ :]/gm)) {
      const cited = everything.some(([other, text]) => {
        const searched = other === path ? text.slice(header.length) : text;
        return new RegExp(`\\b${number}\\b`).test(searched);
      });
      if (!cited) uncited.push(`${path}: ${number}`);
    }
  }
  assert.deepEqual(uncited, []);
});

test('dependencies are pinned to exact versions', () => {
  const manifest = JSON.parse(read('package.json')) as Record<string, Record<string, string>>;
  const versions = { ...manifest['dependencies'], ...manifest['devDependencies'] };
  const loose = Object.entries(versions).filter(
    ([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version),
  );
  assert.deepEqual(loose, []);
});
