// The format of a snapshot's file: a header with the version, then numbered pieces, each encrypted and authenticated on its own.
import { createCipheriv, createDecipheriv } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import { Failure } from '@atoll/protocol'

const magic = Buffer.from('ATOLLSNP')
const formatVersion = 1
const headerBytes = magic.length + 4
const lengthBytes = 4
const tagBytes = 16
const pieceBytes = 1024 * 1024
const cipher = 'aes-256-gcm'

export interface FileKey {
  /** 32 bytes, used for one file only. */
  readonly key: Uint8Array
  /** Whose file it is: one file cannot stand in for another. */
  readonly id: string
}

const header = Buffer.concat([magic, Buffer.from([0, 0, 0, formatVersion])])
const associated = (id: string): Buffer => Buffer.concat([header, Buffer.from(id)])

/** A number is used once, and the last piece has a mark: one that is missing, moved or repeated does not open. */
function nonceOf(number: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(12)
  nonce.writeBigUInt64BE(BigInt(number))
  nonce[11] = isLast ? 1 : 0
  return nonce
}

function sealPiece({ key, id }: FileKey, piece: Uint8Array, nonce: Buffer): Buffer {
  const sealing = createCipheriv(cipher, key, nonce, { authTagLength: tagBytes })
  sealing.setAAD(associated(id))
  const length = Buffer.alloc(lengthBytes)
  length.writeUInt32BE(piece.length)
  return Buffer.concat([length, sealing.update(piece), sealing.final(), sealing.getAuthTag()])
}

/** The bytes of the file for a content. */
export async function* sealed(content: AsyncIterable<Uint8Array>, key: FileKey): AsyncGenerator<Buffer> {
  yield header
  let number = 0
  let waiting: Uint8Array[] = []
  let size = 0
  for await (const bytes of content) {
    waiting.push(bytes)
    size += bytes.length
    if (size <= pieceBytes) continue
    const all = Buffer.concat(waiting)
    let at = 0
    // Never all of it: the last piece has to be known as such.
    for (; all.length - at > pieceBytes; at += pieceBytes) yield sealPiece(key, all.subarray(at, at + pieceBytes), nonceOf(number++, false))
    waiting = [all.subarray(at)]
    size = all.length - at
  }
  yield sealPiece(key, Buffer.concat(waiting), nonceOf(number, true))
}

const damaged = (id: string, cause?: unknown): Failure =>
  new Failure('snapshot.damaged', `The file of ${id} is damaged, so nothing can be made from it. Delete the snapshot.`, { cause })

async function readAt(file: FileHandle, at: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length)
  let done = 0
  while (done < length) {
    const { bytesRead } = await file.read(buffer, done, length - done, at + done)
    if (bytesRead === 0) break
    done += bytesRead
  }
  return buffer.subarray(0, done)
}

async function openChecked(path: string, id: string): Promise<FileHandle> {
  const file = await open(path, 'r').catch((error: unknown) => {
    throw damaged(id, error)
  })
  const start = await readAt(file, 0, headerBytes)
  if (start.equals(header)) return file
  await file.close()
  const isOurs = start.length === headerBytes && start.subarray(0, magic.length).equals(magic)
  if (!isOurs || start.readUInt32BE(magic.length) <= formatVersion) throw damaged(id)
  const version = start.readUInt32BE(magic.length)
  throw new Failure(
    'snapshot.newer_format',
    `Snapshot ${id} has format ${version}, and this operator knows ${formatVersion}. Upgrade the operator.`,
  )
}

/** @throws Failure `snapshot.damaged`, `snapshot.newer_format`, by the beginning of the file alone */
export async function checkFile(path: string, id: string): Promise<void> {
  await (await openChecked(path, id)).close()
}

/** The content, each piece after it was found true; whoever takes it has all of it only when this ends. @throws Failure as `checkFile` */
export async function* opened(path: string, { key, id }: FileKey): AsyncGenerator<Buffer> {
  const file = await openChecked(path, id)
  try {
    const { size } = await file.stat()
    let at = headerBytes
    for (let number = 0; at < size || number === 0; number += 1) {
      const length = await readAt(file, at, lengthBytes)
      const pieceLength = length.length === lengthBytes ? length.readUInt32BE() : Number.POSITIVE_INFINITY
      const end = at + lengthBytes + pieceLength + tagBytes
      if (pieceLength > pieceBytes || end > size) throw damaged(id)
      const piece = await readAt(file, at + lengthBytes, pieceLength + tagBytes)
      yield openPiece({ key, id }, piece, nonceOf(number, end === size))
      at = end
    }
  } finally {
    await file.close()
  }
}

function openPiece({ key, id }: FileKey, piece: Buffer, nonce: Buffer): Buffer {
  try {
    const opening = createDecipheriv(cipher, key, nonce, { authTagLength: tagBytes })
    opening.setAAD(associated(id))
    opening.setAuthTag(piece.subarray(-tagBytes))
    return Buffer.concat([opening.update(piece.subarray(0, -tagBytes)), opening.final()])
  } catch (error) {
    throw damaged(id, error)
  }
}
