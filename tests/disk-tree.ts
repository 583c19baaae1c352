// A disk with one of everything that a file system can hold, and what tells whether two are the same.
function header(name: string, type: string, size: number): Buffer {
  const block = Buffer.alloc(512)
  const octal = (value: number, digits: number): string => `${value.toString(8).padStart(digits - 1, '0')}\0`
  block.write(name, 0)
  block.write(`${octal(0o644, 8)}${octal(1000, 8)}${octal(1000, 8)}${octal(size, 12)}${octal(1, 12)}        ${type}`, 100)
  block.write('ustar\0' + '00', 257)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return block
}

const padded = (text: string): Buffer => Buffer.concat([Buffer.from(text), Buffer.alloc(512 - text.length)])

/** An archive of a file `marked` that has an extended attribute: images have no program that would set one. */
function archiveWithAttribute(): Buffer {
  const record = ' SCHILY.xattr.user.mark=seen\n'
  const attribute = `${record.length + 2}${record}`
  return Buffer.concat([
    header('pax', 'x', attribute.length),
    padded(attribute),
    header('marked', '0', 3),
    padded('abc'),
    Buffer.alloc(1024),
  ])
}

/** Run in a sandbox, it fills the working directory. */
export const plant = [
  'mkdir -p a/b "with blank" && head -c 3000000 /dev/urandom > a/b/data && ln a/b/data hard && ln -s a/b/data link && ln -s /nowhere/at/all dangling',
  'mkfifo a/pipe && chmod 2750 a/b && truncate -s 60M sparse && printf x | dd of=sparse bs=1 seek=23456789 conv=notrunc 2>/dev/null',
  'cp /bin/true raised && chmod 6755 raised && printf strange > "$(printf "not\\377text")" && chmod 000 "with blank"',
  'touch -d 2001-02-03T04:05:06.789 old && rm -rf /home/agent/.profile && echo mine > /home/agent/.bashrc && echo t > /tmp/kept',
  `echo ${archiveWithAttribute().toString('base64')} | base64 -d | tar --xattrs --xattrs-include='user.*' -xf -`,
].join(' && ')

/** Prints what must be equal: names, kinds, modes, owners, sizes, blocks, links, times, contents, attributes. */
export const tree = [
  'cd /home/agent/workspace && chmod 700 "with blank"',
  'find /home/agent /tmp/kept -path ./ticks -prune -o ! -name ticks -printf "%p %y %m %U %G %s %b %n %l %T@\\n" | grep -v "^/home/agent/workspace d\\|with blank" | sort',
  'find /home/agent -type f ! -name ticks -print0 | sort -z | xargs -0 sha256sum',
  'test hard -ef a/b/data && echo hard',
  `tar --xattrs --xattrs-include='user.*' --format=pax -cf - marked | grep -ac SCHILY.xattr.user.mark=seen`,
].join(' && ')
