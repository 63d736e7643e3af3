const data = JSON.parse(document.getElementById('data').textContent), main = document.querySelector('main');
const panel = document.querySelector('.panel'), attempts = [...document.querySelectorAll('.attempt')];
const chosen = name => document.querySelector(`input[name=${name}]:checked`).value;
function make(tag, text = '', cls = '') { const e = document.createElement(tag); e.textContent = text; e.className = cls; return e; }
const shown = text => text.replaceAll('\n', '⏎').replaceAll(' ', '␣');
function row(text, p, own) {  // probabilities as number and as bar
  const tr = make('tr', '', own ? 'own' : ''), right = make('td'), bar = make('span', '', 'bar'), fill = make('i');
  fill.style.width = `${100 * p}%`; bar.append(fill); right.append(bar, p < .0005 ? p.toExponential(1) : p.toFixed(3));
  const left = make('td'); left.append(make('code', (own ? '▸ ' : '') + shown(text))); tr.append(left, right); return tr;
}
function table(title, token, said) {
  const t = make('table'); t.append(make('caption', title));
  for (const [text, p] of said.top) t.append(row(text, p, text === token.text));
  if (!said.top.some(([text]) => text === token.text)) t.append(row(token.text, Math.exp(said.logp), true));
  return t;
}
function look(t) {  // the panel about token t, and a frame around it in the attempt
  const section = attempts[chosen('step')], token = data[chosen('step')][t], said = token[chosen('view')], d = said.d;
  main.querySelectorAll('.now').forEach(e => e.classList.remove('now'));
  section.querySelectorAll(`[data-t="${t}"]`).forEach(e => e.classList.add('now'));
  const factor = Math.exp(Math.min(Math.abs(d), 99));
  const words = factor < 1.05 ? 'as likely to the teacher' : `${factor.toFixed(1)} times ${d > 0 ? 'more' : 'less'} likely to the teacher`;
  const head = make('div'), own = make('code', shown(token.text), 'token');
  head.append(own, ` token ${+t + 1} of ${data[chosen('step')].length}`);
  panel.replaceChildren(head, make('small', `log p_teacher − log p_student = ${(Math.round(100 * d) / 100 + 0).toFixed(2).replace('-', '−')}`), make('div', words),
    table('Student, without the feedback', token, said.student), table('Teacher, who read the feedback', token, said.teacher));
}
function strongest() {  // where the eye should go first
  const view = chosen('view'), tokens = data[chosen('step')];
  look(tokens.reduce((best, token, t) => Math.abs(token[view].d) > Math.abs(tokens[best][view].d) ? t : best, 0));
}
document.addEventListener('change', () => {
  main.className = chosen('view'); attempts.forEach((s, n) => s.classList.toggle('chosen', n == chosen('step'))); strongest();
});
for (const happens of ['mouseover', 'focusin', 'click'])
  main.addEventListener(happens, e => e.target.closest('.t') && look(e.target.closest('.t').dataset.t));
main.addEventListener('keydown', e => {  // arrows walk from token to token; in the list of steps they do so already
  const way = { ArrowRight: 1, ArrowLeft: -1 }[e.key], t = e.target.dataset.t;
  if (!way || t === undefined) return;
  const next = attempts[chosen('step')].querySelector(`[data-t="${+t + way}"][tabindex]`);
  if (next) { e.preventDefault(); next.focus(); }
});
strongest();
