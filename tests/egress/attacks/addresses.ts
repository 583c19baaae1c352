// Attacks by addresses and names, against a policy that allows the whole internet.
import type { Answer } from '../../../operator/src/gateway/testing/dns-server.ts'
import { far, own } from '../world.ts'
import { type Attack, bytes, outcomeOf, proxied, tunnelTo } from './attack.ts'

/** By number, in the one spelling that is read. */
const numbers = [
  ...[
    '127.0.0.1',
    '127.0.0.53',
    '127.255.255.254',
    '0.0.0.0',
    '10.0.0.1',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.0.1',
    '169.254.169.254',
  ],
  ...[
    '169.254.170.2',
    '100.64.0.1',
    '100.100.100.200',
    '192.0.0.192',
    '192.0.2.1',
    '198.18.0.1',
    '198.51.100.7',
    '203.0.113.9',
    '192.88.99.1',
  ],
  ...[
    '224.0.0.251',
    '239.255.255.250',
    '240.0.0.1',
    '255.255.255.255',
    own.four,
    '[::1]',
    '[::]',
    '[::ffff:127.0.0.1]',
    '[::ffff:a9fe:a9fe]',
  ],
  ...[
    '[::127.0.0.1]',
    '[::ffff:0:7f00:1]',
    '[64:ff9b::7f00:1]',
    '[64:ff9b::a9fe:a9fe]',
    '[2002:7f00:1::]',
    '[2001:0:7f00:1::]',
    '[fe80::1]',
  ],
  ...['[fec0::1]', '[fd00:ec2::254]', '[fc00::1]', '[ff02::1]', '[100::1]', '[2001:db8::1]', '[3fff::1]', `[${own.six}]`],
]

/** What some programs take for an address, and no address is. */
const spellings = [
  ...['127.1:80', '127.0.1:80', '2130706433:80', '0x7f000001:80', '0x7f.0.0.1:80', '0x7f.1:80', '0177.0.0.1:80', '017700000001:80'],
  ...['127.0.0.1.:80', '127.0.0.01:80', '0127.0.0.1:80', '1.1.1.1.1:80', '127.0.0.1%00.example.com:80', '[127.0.0.1]:80', '[::1%25lo]:80'],
  ...[
    '[::1%lo]:80',
    '::1:80',
    '[::1',
    '[]:80',
    '[::ffff:127.0.0.1.]:80',
    'any.example.com.:443',
    'any..example.com:443',
    '.example.com:443',
  ],
  ...[
    'any.example.com',
    'any.example.com:',
    'any.example.com:0',
    'any.example.com:65536',
    'any.example.com:00443',
    'any.example.com:0x1bb',
  ],
  ...[
    'any.example.com:+443',
    'any.example.com:-1',
    'any.example.com:443:443',
    'any.example.com:80,443',
    ':443',
    'user@any.example.com:443',
  ],
  ...['any.example.com:443@127.0.0.1:80', 'any.example.com:443/', 'any.example.com:443?x', 'http://any.example.com:443'],
  ...['any%2eexample.com:443', 'any.example.com%23:443', '-any.example.com:443', `${'a'.repeat(64)}.com:443`],
  ...[
    `${'a.'.repeat(140)}example.com:443`,
    'localhost:80',
    'LocalHost:80',
    'any.localhost:80',
    'metadata.google.internal:80',
    'nas.local:80',
  ],
  ...['host.docker.internal:80', 'router:80', 'instance-data.ec2.internal:80', 'hidden.onion:80', 'xn--.:443', 'any.example.com,evil:443'],
]

/** By names that lead where nobody may go. */
const names: Readonly<Record<string, Answer | { readonly turns: readonly Answer[] }>> = {
  'loopback.evil.net': ['127.0.0.1'],
  'zero.evil.net': ['0.0.0.0'],
  'private.evil.net': ['10.1.2.3'],
  'metadata.evil.net': ['169.254.169.254'],
  'shared.evil.net': ['100.100.100.200'],
  'own.evil.net': [own.four],
  'own-six.evil.net': [own.six],
  'six-loopback.evil.net': ['::1'],
  'mapped.evil.net': ['::ffff:10.0.0.1'],
  'translated.evil.net': ['64:ff9b::a00:1'],
  'six-to-four.evil.net': ['2002:a00:1::1'],
  'local-six.evil.net': ['fd00::9'],
  'link.evil.net': ['fe80::9'],
  'multicast.evil.net': ['224.0.0.1'],
  'mixed.evil.net': ['93.184.216.34', '10.0.0.1'],
  'mixed-six.evil.net': ['93.184.216.34', '::1'],
  'last-of-many.evil.net': [...Array.from({ length: 9 }, (_, index) => `93.184.216.${index + 1}`), '192.168.1.1'],
  'alias.evil.net': { alias: 'loopback.evil.net' },
  'chain.evil.net': { alias: 'alias.evil.net' },
  'alias-out.evil.net': { alias: 'elsewhere.test.net' },
  'elsewhere.test.net': ['172.20.0.1'],
}

const byName: readonly Attack[] = Object.keys(names)
  .filter((name) => name.endsWith('.evil.net'))
  .flatMap((name) => [tunnelTo(`${name}:443`, 'private_address'), proxied(`http://${name}/`, 'private_address')])

/** First it leads to the world, then home: each connection goes by what it asked itself. */
const rebinding: Attack = {
  name: 'a name that is public when it is looked at, and private when it is used again',
  event: 'private_address',
  status: [403],
  run: async (subject, sandbox) => {
    const turn = (address: string) => [[address], [address]]
    await subject.world.setNames({ 'rebound.evil.net': { turns: [...turn('93.184.216.34'), ['127.0.0.1']] } })
    const first = await subject.tunnel('rebound.evil.net:80', sandbox)
    first.socket.destroy()
    if (first.said.status !== 200) return outcomeOf(first.said)
    await subject.world.reached()
    const second = await subject.tunnel('rebound.evil.net:80', sandbox)
    second.socket.destroy()
    return outcomeOf(second.said)
  },
}

const addresses = [
  ...['http://127.0.0.1/', 'http://[::1]/', 'http://169.254.169.254/latest/meta-data/', `http://${own.four}:9090/api/sandboxes`],
  ...['http://[::ffff:127.0.0.1]/', 'http://10.0.0.1:2375/containers/json'],
]

const unreadable = [
  ...[
    'http://2130706433/',
    'http://0x7f.1/',
    'http://0177.0.0.1/',
    'http://127.1/',
    'http://localhost/',
    'http://127.0.0.1./',
    'http://user@any.example.com/',
  ],
  ...['http://any.example.com@127.0.0.1/', 'http://any.example.com:80@127.0.0.1/', 'http:///etc/passwd'],
  ...[
    'http://any.example.com:99999/',
    'http://any%2eexample.com/',
    'https://any.example.com/',
    'ftp://any.example.com/',
    'file:///etc/passwd',
  ],
  ...['ws://any.example.com/', 'http://any.example.com/a#b', 'http://', 'http://metadata.google.internal/'],
]

/** What is no request at all. */
const malformed = [
  ...[
    'CONNECT any.example.com:443#x',
    'CONNECT any.example.com\\@127.0.0.1:80',
    'GET http://any.example.com\\@127.0.0.1/',
    'GET http:any.example.com/',
  ],
  ...[
    'GET',
    'GET any.example.com',
    'GET http://any.example.com/ HTTP/0.9',
    'G\0T http://any.example.com/',
    'CONNECT any.example.com:443 x',
  ],
]

export const addressAttacks: readonly Attack[] = [
  ...numbers.map((host) => tunnelTo(`${host}:80`, 'private_address')),
  ...spellings.map((target) => tunnelTo(target, 'bad_target')),
  ...byName,
  rebinding,
  ...addresses.map((address) => proxied(address, 'private_address')),
  ...unreadable.map((address) => proxied(address, 'bad_target')),
  ...[22, 25, 110, 465].map((port) => tunnelTo(`any.example.com:${port}`, 'port')),
  proxied('http://any.example.com:25/', 'port'),
  proxied('http://any.example.com/', 'host_mismatch', 'other.example.com'),
  proxied('http://any.example.com/port', 'host_mismatch', 'any.example.com:8080'),
  proxied('http://any.example.com/dot', 'host_mismatch', 'any.example.com.'),
  bytes(
    'two hosts',
    'GET http://any.example.com/two HTTP/1.1\r\nHost: any.example.com\r\nHost: any.example.com\r\n\r\n',
    'host_mismatch',
    [403, 400],
  ),
  bytes(
    'a tunnel for another host than the one named',
    'CONNECT one.example.com:443 HTTP/1.1\r\nHost: two.example.com:443\r\n\r\n',
    'bad_target',
  ),
  bytes(
    'a tunnel that names two hosts',
    `CONNECT three.example.com:443 HTTP/1.1\r\nHost: three.example.com\r\nHost: ${far.four}\r\n\r\n`,
    'bad_target',
    [403, 400],
  ),
  ...malformed.map((line) =>
    bytes(`the line ${JSON.stringify(line)}`, `${line} HTTP/1.1\r\nHost: any.example.com\r\n\r\n`, undefined, [400]),
  ),
  bytes(
    'an upgrade to a private address',
    'GET http://10.0.0.1/socket HTTP/1.1\r\nHost: 10.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n',
    'private_address',
  ),
  bytes(
    'the gateway through itself',
    'GET http://127.0.0.1:7077/openai/models HTTP/1.1\r\nHost: 127.0.0.1:7077\r\n\r\n',
    'private_address',
  ),
]

/** For the world to answer. */
export const attackNames = { ...names, '*.example.com': ['93.184.216.34'] } as Readonly<Record<string, Answer>>
