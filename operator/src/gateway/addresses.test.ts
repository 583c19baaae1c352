import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isOwnAddress, isPublicAddress, isPublicName, parseTarget } from './addresses.ts'

const publicOnes = [
  ...['1.1.1.1', '8.8.8.8', '93.184.216.34', '100.63.255.255', '100.128.0.1', '172.15.0.1', '172.32.0.1', '192.167.1.1', '198.17.255.255'],
  ...['198.20.0.0', '223.255.255.255', '2606:4700:4700::1111', '2a00:1450:4001:81b::200e', '2620:fe::fe'],
]

const others: Readonly<Record<string, readonly string[]>> = {
  'this network': ['0.0.0.0', '0.1.2.3', '::'],
  loopback: ['127.0.0.1', '127.255.255.254', '::1'],
  private: ['10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', 'fc00::1', 'fd12:3456::1'],
  'link-local, with the services of clouds': ['169.254.169.254', '169.254.170.2', 'fe80::1', 'fd00:ec2::254'],
  'carrier-grade NAT': ['100.64.0.1', '100.100.100.200', '100.127.255.255'],
  'site-local': ['fec0::1'],
  multicast: ['224.0.0.1', '239.255.255.250', 'ff02::1', 'ff0e::1'],
  'broadcast and reserved': ['255.255.255.255', '240.0.0.1', '192.0.0.1', '192.0.0.192', '192.88.99.1', '192.31.196.1', '192.175.48.1'],
  benchmarking: ['198.18.0.1', '198.19.255.255', '2001:2::1'],
  documentation: ['192.0.2.1', '198.51.100.1', '203.0.113.1', '2001:db8::1', '3fff::1', '3fff:fff::1'],
  'IPv4 in IPv6': [
    ...['::ffff:127.0.0.1', '::ffff:8.8.8.8', '::ffff:7f00:1', '::127.0.0.1', '::8.8.8.8', '::ffff:0:8.8.8.8', '64:ff9b::7f00:1'],
    ...['64:ff9b::808:808', '64:ff9b:1::1', '2002:7f00:1::', '2002:a00:1::1', '2001:0:4136:e378::1'],
  ],
  'protocol assignments': ['2001:10::1', '2001:20::1', '2001:4:112::1', '2620:4f:8000::1', '100::1', '5f00::1', '4000::1'],
  'not an address': [
    '',
    'example.com',
    '127.1',
    '0177.0.0.1',
    '0x7f.0.0.1',
    '2130706433',
    '1.1.1.1%eth0',
    'fe80::1%eth0',
    '[::1]',
    '2606::1%1',
  ],
}

test('an address is public only when the internet routes it to somebody', () => {
  for (const address of publicOnes) assert.equal(isPublicAddress(address), true, address)
  for (const [kind, addresses] of Object.entries(others)) {
    for (const address of addresses) assert.equal(isPublicAddress(address), false, `${kind}: ${address}`)
  }
})

test('the addresses of this machine are known in every spelling', () => {
  assert.equal(isOwnAddress('127.0.0.1'), true)
  assert.equal(isOwnAddress('1.1.1.1'), false)
  assert.equal(isOwnAddress('2606:4700::1'), false)
})

test('a public name has one spelling, and a number is none', () => {
  const names = ['example.com', 'a.b.example.co.uk', 'xn--bcher-kva.example', '_x.example.com', 'my_bucket.s3.example.com', '1.example.com']
  for (const name of names) assert.equal(isPublicName(name), true, name)
  const refused = [
    ...['', '.', 'com', 'localhost', 'a.localhost', 'printer.local', 'metadata.google.internal', 'x.onion', 'example.com.', '.example.com'],
    ...['a..example.com', 'Example.com', 'bücher.example', 'ex%61mple.com', 'a b.com', 'a@example.com', '-a.example.com', 'a-.example.com'],
    ...[
      '127.1',
      '127.0.0.1',
      '0x7f.0.0.1',
      '0x7f000001',
      '2130706433',
      '017700000001',
      '0177.0.0.1',
      '1.2.3.4.5',
      'example.0x1',
      'example.1',
    ],
    ...[`${'a'.repeat(64)}.com`, `${'a.'.repeat(126)}com.example`, 'example.com:80', '[::1]', '::1', '*.example.com', 'example.com\0.org'],
  ]
  for (const name of refused) assert.equal(isPublicName(name), false, name)
})

test('a target is read in exactly one way, or not at all', () => {
  assert.deepEqual(parseTarget('Example.com:443'), { host: 'example.com', port: 443 })
  assert.deepEqual(parseTarget('[2606:4700::1]:443'), { host: '2606:4700::1', port: 443 })
  assert.deepEqual(parseTarget('1.1.1.1', 80), { host: '1.1.1.1', port: 80 })
  assert.deepEqual(parseTarget('models:11434'), { host: 'models', port: 11_434 })
  const refused = [
    ...['', ':443', 'example.com', 'example.com:', 'example.com:0', 'example.com:65536', 'example.com:0443', 'example.com:+443', 'a:1:2'],
    ...[
      'a@example.com:443',
      'example.com:443@evil.com:443',
      'http://example.com:443',
      'example.com:443/',
      'example.com:443?x',
      'exa mple.com:443',
    ],
    ...[
      'example.com\r\n:443',
      'example.com%00:443',
      '[::1',
      '[::1]',
      '[fe80::1%eth0]:443',
      '[fe80::1%25eth0]:443',
      '::1:443',
      '[example.com]:443',
    ],
    ...['2130706433:80', '0x7f.1:80', '127.1:80', '0177.0.0.1:80', '1.1.1.1.1:80', 'example.1:80'],
    ...['example.com.:443', 'bücher.example:443', 'example.com:４４３', '\\example.com:443', 'example.com:443\0', '[1.1.1.1]:443'],
  ]
  for (const text of refused) assert.equal(parseTarget(text), undefined, text)
})
