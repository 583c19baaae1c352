// Makes the sidecar program: `node`, `sidecar.mjs` and what it loads beside it, in one folder that any glibc sandbox can run from.
import { createHash } from 'node:crypto'
import { chmod, copyFile, link, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { createRequire, isBuiltin } from 'node:module'
import path from 'node:path'
import { type BuildOptions, build, version as esbuildVersion, type OutputFile, type Plugin } from 'esbuild'

const packageFolder = path.resolve(import.meta.dirname, '..')
const dist = path.join(packageFolder, 'dist')
const failures = path.resolve(packageFolder, '../protocol/src/failures.ts')
const require = createRequire(import.meta.url)
const ptyPackage = `@lydell/node-pty-${process.platform}-${process.arch}`
const inputs = {
  node: path.join(path.dirname(require.resolve('node/package.json')), 'bin/node'),
  pty: require.resolve(`${ptyPackage}/pty.node`),
  folders: [path.join(packageFolder, 'src'), path.resolve(packageFolder, '../protocol/src')],
  files: [path.join(packageFolder, 'package.json'), path.join(packageFolder, 'scripts/bundle.ts')],
}

/** A hash of everything the program is made from; of the large binaries their size and time. */
async function fingerprint(): Promise<string> {
  const hash = createHash('sha256').update(`${esbuildVersion} ${process.platform} ${process.arch}\n`)
  const sources = [...inputs.files]
  for (const folder of inputs.folders) {
    const names = await readdir(folder, { recursive: true })
    sources.push(...names.filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts')).map((name) => path.join(folder, name)))
  }
  for (const source of sources.sort()) hash.update(`${source}\n`).update(await readFile(source))
  for (const binary of [inputs.node, inputs.pty]) {
    const { size, mtimeMs } = await stat(binary)
    hash.update(`${binary} ${size} ${mtimeMs}\n`)
  }
  return hash.digest('hex')
}

async function place(from: string, to: string): Promise<void> {
  // The Node binary is large: a second name where the file system allows it, else a copy.
  await link(from, to).catch(() => copyFile(from, to))
}

/** Packages in CommonJS ask for Node's modules with require, which a module does not have. */
const requiredNodeModules: Plugin = {
  name: 'required-node-modules',
  setup: (building) => {
    building.onResolve({ filter: /.*/ }, ({ path: name, kind }) => {
      if (!isBuiltin(name)) return undefined
      return kind === 'require-call' ? { path: name, namespace: 'builtin' } : { path: name, external: true }
    })
    building.onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path: name }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(name)})`,
    }))
  },
}

const importStatement = /\bimport(?:\s*(?<whole>[\w$]+)\s*,?)?\s*(?:\{(?<names>[^}]*)\})?\s*from\s*"(?<module>node:[\w/]+)";/g

/**
 * An import of one of Node's modules runs every getter that it exports, and one of http's loads a whole HTTP client: 90 ms at each start
 * of a sandbox. Taken from the process instead, a module costs what is used of it.
 */
const withoutImports = (code: string): string =>
  code.replaceAll(importStatement, (...args) => {
    const { whole, names, module }: Record<string, string | undefined> = args.at(-1)
    const taken = `process.getBuiltinModule("${module}")`
    const parts = [...(whole ? [whole] : []), ...(names ? [`{${names.replaceAll(/\s+as\s+/g, ':')}}`] : [])]
    return parts.map((part) => `const ${part}=${taken};`).join('')
  })

/** node-pty looks its binary up in a package that a sandbox does not have; it stands beside the bundle. */
const ptyBesideBundle: Plugin = {
  name: 'pty-beside-bundle',
  setup: (building) => {
    building.onResolve({ filter: /requireBinary$/ }, () => ({ path: 'pty', namespace: 'beside' }))
    building.onLoad({ filter: /.*/, namespace: 'beside' }, () => ({
      contents: `export const requireBinary = () => process.getBuiltinModule('node:module').createRequire(import.meta.url)('./pty.node')`,
    }))
  },
}

/** To read these costs each start of a sandbox some milliseconds, and few need them: they stand beside the bundle, and have the same name. */
const besideBundle = {
  'agents-with-harnesses': path.join(packageFolder, 'src/agents/agents-with-harnesses.ts'),
  'acp-library': path.join(packageFolder, 'src/agents/drivers/acp-library.ts'),
} as const
const main = 'sidecar'

const importedWhenWanted: Plugin = {
  name: 'imported-when-wanted',
  setup: (building) => {
    building.onResolve({ filter: /\.ts$/ }, ({ path: name, kind }) => {
      const isBeside = kind === 'dynamic-import' && Object.hasOwn(besideBundle, path.basename(name, '.ts'))
      return isBeside ? { path: `./${path.basename(name, '.ts')}.mjs`, external: true } : undefined
    })
  },
}

/**
 * What stands beside has copies of what it shares with the bundle, so nothing that goes between them may be known by its class, but for
 * failures: of those there is one.
 */
const sameFailures: Plugin = {
  name: 'same-failures',
  setup: (building) => {
    building.onResolve({ filter: /^@atoll\/protocol$/ }, () => ({ path: `./${main}.mjs`, external: true }))
  },
}

/** The failures go out of the bundle for what stands beside it. */
const entry = `import './src/main.ts'\nexport { Failure, isFailureCode } from '@atoll/protocol'\n`

async function bundleCode(folder: string): Promise<void> {
  const outputs = await Promise.all([
    buildCode(folder, { stdin: { contents: entry, resolveDir: packageFolder, sourcefile: `${main}.ts` }, entryNames: main, plugins: [] }),
    buildCode(folder, { entryPoints: besideBundle, plugins: [sameFailures] }),
  ])
  for (const { path: file, text } of outputs.flat()) await writeFile(file, withoutImports(text))
}

async function buildCode(folder: string, { plugins = [], ...input }: BuildOptions): Promise<readonly OutputFile[]> {
  const { outputFiles = [] } = await build({
    ...input,
    outdir: folder,
    outExtension: { '.js': '.mjs' },
    write: false,
    bundle: true,
    platform: 'node',
    target: 'node24',
    format: 'esm',
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    logLevel: 'warning',
    // Of the protocol only its failures have code in here; anything else fails the build instead of bringing a schema library along.
    alias: { '@atoll/protocol/sidecar': path.resolve(packageFolder, '../protocol/src/sidecar.ts'), '@atoll/protocol': failures },
    plugins: [...plugins, requiredNodeModules, ptyBesideBundle, importedWhenWanted],
  })
  return outputFiles
}

/** Two builds at once make the same, so whoever comes last is as good as the first. */
async function replace(draft: string): Promise<void> {
  const old = `${draft}.old`
  await rename(dist, old).catch(() => undefined)
  await rename(draft, dist).catch(() => undefined)
  await rm(old, { recursive: true, force: true })
  await stat(path.join(dist, 'sidecar.mjs'))
}

/** Makes the program unless it is there already, and answers its folder. */
export async function bundle(): Promise<string> {
  const wanted = await fingerprint()
  const stamp = path.join(dist, 'fingerprint')
  if ((await readFile(stamp, 'utf8').catch(() => '')) === wanted) return dist
  const draft = `${dist}.draft-${process.pid}`
  await rm(draft, { recursive: true, force: true })
  await mkdir(draft, { recursive: true })
  try {
    await bundleCode(draft)
    await place(inputs.node, path.join(draft, 'node'))
    await copyFile(inputs.pty, path.join(draft, 'pty.node'))
    await chmod(path.join(draft, 'pty.node'), 0o644)
    await writeFile(path.join(draft, 'fingerprint'), wanted)
    await replace(draft)
  } finally {
    await rm(draft, { recursive: true, force: true })
  }
  return dist
}

if (import.meta.main) console.log(await bundle())
