import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  credentialOf,
  isHostAllowed,
  isLoopback,
  isOriginAllowed,
  mayUse,
  TokenTable,
} from '../../../../src/supervisor/http/access.ts';

test('AC1 without tokens only loopback names are answered to', () => {
  for (const host of ['127.0.0.1:8080', 'localhost', 'LOCALHOST:9', '[::1]:8080', '127.1.2.3']) {
    assert.ok(isHostAllowed(host, false), host);
  }
  for (const host of [
    undefined,
    '',
    'evil.example',
    'localhost.evil.example:8080',
    '127.0.0.1.evil.example',
    '0.0.0.0:8080',
    'localhost@evil.example',
    'a b',
  ]) {
    assert.ok(!isHostAllowed(host, false), String(host));
  }
});

test('AC2 with tokens any name may lead here, but it must be a name', () => {
  assert.ok(isHostAllowed('tidemark.example.org:443', true));
  for (const host of [undefined, '', 'a/b', 'x@y', 'a b', `${'a'.repeat(300)}`]) {
    assert.ok(!isHostAllowed(host, true), String(host));
  }
});

test('AC3 a browser may change things only from this very origin', () => {
  const host = '127.0.0.1:8080';
  const allowed = (origin?: string, fetchSite?: string): boolean =>
    isOriginAllowed({ origin, host, fetchSite });
  assert.ok(allowed());
  assert.ok(allowed('http://127.0.0.1:8080', 'same-origin'));
  assert.ok(allowed(undefined, 'none'));
  // A proxy may speak TLS in front of us.
  assert.ok(
    isOriginAllowed({ origin: 'https://t.example', host: 't.example', fetchSite: undefined }),
  );
  for (const origin of [
    'http://127.0.0.1:9999',
    'https://evil.example',
    'null',
    'http://localhost:8080',
  ]) {
    assert.ok(!allowed(origin), origin);
  }
  for (const site of ['cross-site', 'same-site']) assert.ok(!allowed(undefined, site), site);
});

test('loopback addresses are told from those that others reach', () => {
  for (const host of ['127.0.0.1', 'localhost', '::1', '127.255.0.9']) assert.ok(isLoopback(host));
  for (const host of ['0.0.0.0', '::', '10.0.0.1', 'localhost.example'])
    assert.ok(!isLoopback(host));
});

test('credentials come from Bearer, and from Basic only where it is allowed', () => {
  const basic = `Basic ${Buffer.from('anybody:secret:with:colons').toString('base64')}`;
  assert.equal(credentialOf('Bearer abc', { basic: false }), 'abc');
  assert.equal(credentialOf('bearer abc', { basic: false }), 'abc');
  assert.equal(credentialOf(basic, { basic: false }), undefined);
  assert.equal(credentialOf(basic, { basic: true }), 'secret:with:colons');
  for (const header of [
    undefined,
    '',
    'Bearer',
    'Bearer a b',
    'Digest x',
    `Bearer ${'x'.repeat(2000)}`,
  ]) {
    assert.equal(credentialOf(header, { basic: true }), undefined);
  }
});

test('AC2 a token is found by its exact text', () => {
  const table = new TokenTable([
    { name: 'ops', role: 'operator', token: 'correct horse battery' },
    { name: 'eyes', role: 'viewer', token: 'staple' },
  ]);
  assert.deepEqual(table.find('correct horse battery'), { name: 'ops', role: 'operator' });
  assert.deepEqual(table.find('staple'), { name: 'eyes', role: 'viewer' });
  for (const token of ['', 'Staple', 'staple ', 'stapl'])
    assert.equal(table.find(token), undefined);
  assert.ok(!table.isEmpty);
});

test('a viewer reads, an operator does both', () => {
  assert.ok(mayUse('viewer', 'viewer'));
  assert.ok(mayUse('operator', 'viewer'));
  assert.ok(mayUse('operator', 'operator'));
  assert.ok(!mayUse('viewer', 'operator'));
});
