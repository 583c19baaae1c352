// Certificates that programs in the sandbox trust beside those of its system: by files, which variables name.
import { existsSync, lstatSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { rootCertificates } from 'node:tls'

/** Where systems keep what they trust. */
const systemBundles = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
]

/** Programs that take a file instead of what the system trusts. */
const bundleVariables = [
  ...['SSL_CERT_FILE', 'CURL_CA_BUNDLE', 'REQUESTS_CA_BUNDLE', 'PIP_CERT', 'GIT_SSL_CAINFO', 'CARGO_HTTP_CAINFO', 'AWS_CA_BUNDLE'],
  ...['NIX_SSL_CERT_FILE', 'DENO_CERT', 'BUNDLE_SSL_CA_CERT', 'npm_config_cafile', 'YARN_HTTPS_CA_FILE_PATH'],
]

function systemBundle(): string {
  const found = systemBundles.find((file) => existsSync(file))
  return found === undefined ? rootCertificates.join('\n') : readFileSync(found, 'utf8')
}

/** Readers find the old file or the new one, and never half of one. */
function writeWhole(file: string, text: string): void {
  writeFileSync(`${file}.new`, text, { mode: 0o644 })
  renameSync(`${file}.new`, file)
}

/**
 * Writes the files. Answers the variables that name them, each by itself: whoever sets one of them means it. None when it could not be
 * done, as where somebody else has the folder: a file that is not there would be worse.
 */
export function trust(folder: string, caPem: string): readonly Readonly<Record<string, string>>[] {
  const [own, bundle] = [path.join(folder, 'ca.pem'), path.join(folder, 'bundle.pem')]
  try {
    mkdirSync(folder, { recursive: true, mode: 0o755 })
    const { uid, mode } = lstatSync(folder)
    if (uid !== process.getuid?.() || (mode & 0o022) !== 0) return []
    writeWhole(own, caPem)
    writeWhole(bundle, `${systemBundle().trimEnd()}\n${caPem}`)
  } catch {
    return []
  }
  return [{ NODE_EXTRA_CA_CERTS: own }, ...bundleVariables.map((name) => ({ [name]: bundle }))]
}
