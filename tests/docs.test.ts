// What the pages say of files and commands is true.
import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openapi } from '../operator/src/http/openapi.ts'
import packageJson from '../package.json' with { type: 'json' }

const root = fileURLToPath(new URL('..', import.meta.url))
const pages = globSync(['*.md', 'docs/*.md'], { cwd: root })
const read = (file: string): string => readFileSync(path.join(root, file), 'utf8')

test('every link between pages and every path of the repository that a page names exists', () => {
  const missing: string[] = []
  for (const page of pages) {
    const text = read(page)
    const links = [...text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map(([, link = '']) => path.join(path.dirname(page), link))
    const named = [...text.matchAll(/`((?:protocol|operator|sidecar|sdk|cli|docs|tests|scripts|bench|examples)\/[\w./-]*)`/g)].map(
      ([, name = '']) => name,
    )
    for (const name of [...links, ...named]) if (!existsSync(path.join(root, name))) missing.push(`${page}: ${name}`)
  }
  assert.deepEqual(missing, [])
})

test('every npm script that a page names exists', () => {
  const known = new Set([...Object.keys(packageJson.scripts), 'install'])
  for (const page of pages) {
    for (const [, name = ''] of read(page).matchAll(/npm (?:run )?(start|test|check|bench|fix|install|build:\w+|docs:\w+)\b/g)) {
      assert.ok(known.has(name), `${page}: ${name}`)
    }
  }
})

test('the readme is short enough to be read', () => {
  assert.ok(read('README.md').split('\n').length <= 150)
})

test('the printed API description is the one that is served', () => {
  assert.deepEqual(
    JSON.parse(read('docs/openapi.json')),
    JSON.parse(JSON.stringify(openapi(packageJson.version))),
    'run npm run docs:print',
  )
})
