// Programs that people use in sandboxes get what they want from the world by themselves, in tunnels and looked into.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { inOwnNetwork } from './egress/own-network.ts'
import { EgressSubject } from './egress/subject.ts'

let subject: EgressSubject
/** A file in the sandbox with what the world's servers show; their names lead nowhere in the real one. */
const world = '/tmp/world.pem'

async function run(command: string): Promise<string> {
  const { code, out, err } = await subject.run(command)
  assert.equal(code, 0, `${command}\n${out}\n${err}`)
  return out
}

const journey = (host: string): string =>
  [
    'set -e',
    `rm -rf "/tmp/${host}" && git clone --quiet https://${host}/repo.git "/tmp/${host}"`,
    `cd "/tmp/${host}" && git config user.name agent && git config user.email agent@example.com`,
    `head -c 3000000 /dev/urandom > "${host}" && git add . && git commit --quiet -m "From ${host}"`,
    'git push --quiet origin HEAD:main && git fetch --quiet && git log --format=%s origin/main',
  ].join('\n')

await inOwnNetwork(import.meta.filename, () => {
  before(async () => {
    const addresses = ['140.82.112.3']
    subject = await EgressSubject.start('namespace', { '*.example.com': addresses, 'registry.npmjs.org': addresses, 'pypi.org': addresses })
    const root = readFileSync(subject.world.settings['NODE_EXTRA_CA_CERTS'] ?? '', 'utf8')
    await run(`cat > ${world} <<'END'\n${root}END`)
    const rules = [
      { host: 'git.example.com' },
      { host: 'look.example.com', methods: ['GET' as const, 'POST' as const], path_prefix: '/repo.git' },
      { host: 'registry.npmjs.org', methods: ['GET' as const] },
      { host: 'pypi.org', methods: ['GET' as const] },
    ]
    await subject.allow({ mode: 'allowlist', rules })
  })

  after(async () => {
    await subject?.[Symbol.asyncDispose]()
  })

  test('git clones and pushes over HTTPS, in a tunnel', async () => {
    assert.match(await run(`export GIT_SSL_CAINFO=${world}\n${journey('git.example.com')}`), /^From git\.example\.com$/m)
  })

  test('git clones and pushes over HTTPS, looked into', async () => {
    assert.match(await run(journey('look.example.com')), /^From look\.example\.com$/m)
  })

  test('git is told that another repository is denied', async () => {
    const { code, err } = await subject.run('git clone https://look.example.com/other.git /tmp/other')
    assert.equal(code, 128)
    assert.match(err, /403/)
  })

  test('npm installs a package', async () => {
    await run(`mkdir -p /tmp/npm && cd /tmp/npm && npm init -y && npm install --no-audit --no-fund tiny`)
    assert.equal(await run(`cd /tmp/npm && node -p "require('tiny')"`), 'tiny works\n')
  })

  test('python reads an index, gets a file and finds its checksum right', async () => {
    const script = [
      'import hashlib, re, urllib.request as u',
      `page = u.urlopen('https://pypi.org/simple/tiny/').read().decode()`,
      `link, wanted = re.search(r'href="([^#]+)#sha256=([0-9a-f]+)"', page).groups()`,
      `print(hashlib.sha256(u.urlopen(link).read()).hexdigest() == wanted)`,
    ]
    assert.equal(await run(`python3 - <<'END'\n${script.join('\n')}\nEND`), 'True\n')
  })
})
