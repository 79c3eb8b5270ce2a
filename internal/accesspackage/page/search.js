'use strict';
const box = document.getElementById('search');
const field = document.getElementById('q');
const told = document.getElementById('matches');
const rows = Array.from(document.querySelectorAll('tr.record'));
const texts = rows.map((row) => row.textContent.toLowerCase());
box.hidden = rows.length === 0;
field.addEventListener('input', () => {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  rows.forEach((row, i) => {
    const fits = words.every((word) => texts[i].includes(word));
    row.hidden = !fits;
    if (fits) shown++;
  });
  told.textContent = told.dataset.text.replace('{n}', shown);
});
